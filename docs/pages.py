"""The guides as pages: Markdown of this repository to HTML with one navigation, and every command's help.

Links between documents become links between pages; other files of the repository that are linked lie in ``files/``.
"""

from __future__ import annotations

import contextlib
import html
import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from posixpath import normpath
from typing import Any
from unittest.mock import patch

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.token import Token
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

import uadtk

ROOT = Path(__file__).parent.parent
# In the order of the navigation: document (empty: made by the build), page, name.
PAGES = {
    "Start": [
        ("docs/guides/index.md", "index.html", "What it is"),
        ("docs/guides/start.md", "start.html", "Five-minute start"),
        ("docs/guides/gallery.md", "gallery.html", "Gallery"),
    ],
    "Guides": [
        ("docs/guides/radiologist.md", "radiologist.html", "Reading a report"),
        ("docs/guides/archive.md", "archive.html", "Running an archive"),
        ("docs/guides/researcher.md", "researcher.html", "Comparing methods"),
        ("plugins/README.md", "plugins.html", "Writing a plugin"),
    ],
    "Reference": [
        ("docs/guides/reference.md", "reference.html", "Everything uadtk does"),
        ("", "commands.html", "Commands"),
        ("", "api/index.html", "API"),
    ],
    "Numbers": [
        ("benchmarks/README.md", "benchmarks.html", "Benchmarks"),
        ("uadtk/weights/implant.md", "implant.html", "Card of implant"),
        ("uadtk/weights/scalespace.md", "scalespace.html", "Card of scalespace"),
    ],
    "Project": [
        ("README.md", "readme.html", "README"),
        ("CHANGELOG.md", "changelog.html", "Changelog"),
        ("CONTRIBUTING.md", "contributing.html", "Contributing"),
        ("SECURITY.md", "security.html", "Security"),
    ],
}
PAGE_OF = {document: page for group in PAGES.values() for document, page, _ in group if document}
PAGE_OF["docs/README.md"] = "index.html"  # the list of documents


@dataclass(frozen=True)
class Heading:
    level: int
    anchor: str
    text: str


def write_pages(site: Path) -> None:
    """Every page of ``PAGES`` but the API, and the files that they link to. Raises what a broken document raises."""
    for group in PAGES.values():
        for document, page, name in group:
            if document:
                body, headings = rendered(document, site)
                _write(site, page, name, body, headings)
    _write(site, "commands.html", "Commands", *commands())


def rendered(document: str, site: Path) -> tuple[str, list[Heading]]:
    """A document as HTML; what it links to is copied into the site."""
    parser = MarkdownIt("commonmark", {"highlight": _highlighted}).enable("table")
    tokens = parser.parse(_markdown(ROOT / document))
    headings = list(_anchored(tokens))
    for token in tokens:
        for inner in token.children or []:
            for attribute in ("href", "src"):
                if target := inner.attrGet(attribute):
                    inner.attrSet(attribute, _linked(str(target), document, site))
    return parser.renderer.render(tokens, parser.options, {}), headings


def _anchored(tokens: list[Token]) -> Iterator[Heading]:
    """The headings, which get anchors as GitHub names them."""
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            text = "".join(part.content for part in inline.children or [])
            anchor = re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-")
            opening.attrSet("id", anchor)
            yield Heading(int(opening.tag[1]), anchor, text)


def _linked(target: str, document: str, site: Path) -> str:
    """Where a link of a document leads in the site. One that is no file here leads to a page that the build makes."""
    path, hash_, anchor = target.partition("#")
    if not path or re.match(r"[a-z]+:", path):
        return target
    there = normpath(f"{Path(document).parent.as_posix()}/{path}")
    if (ROOT / there).is_dir() and (ROOT / there / "README.md").exists():
        there += "/README.md"
    if there in PAGE_OF:
        return PAGE_OF[there] + hash_ + anchor
    if not (ROOT / there).exists():
        return target
    if (ROOT / there).is_dir() or there.endswith((".md", ".ipynb")):
        return _further(there, site) + hash_ + anchor
    copy = site / "files" / there
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / there, copy)
    return copy.relative_to(site).as_posix() + hash_ + anchor


def _further(there: str, site: Path) -> str:
    """A page for a document that is not in the navigation, or for a folder: the list of its files."""
    page = re.sub(r"(/README)?\.(md|ipynb)$", "", there).replace("/", "-") + ".html"
    if (site / page).exists():
        return page
    _write(site, page, there, "", [])  # documents may link to each other
    if (ROOT / there).is_dir():
        names = sorted(path.name for path in (ROOT / there).iterdir() if path.is_file())
        items = "".join(f'<li><a href="{_linked(name, f"{there}/list", site)}">{name}</a></li>' for name in names)
        _write(site, page, there, f"<h1>{there}</h1><ul>{items}</ul>", [])
    else:
        _write(site, page, there, *rendered(there, site))
    return page


def _markdown(path: Path) -> str:
    """The text of a document; of a notebook, its cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = ((cell["cell_type"] == "code", "".join(cell["source"])) for cell in json.loads(text)["cells"])
    return "\n\n".join(f"```python\n{source}\n```" if code else source for code, source in cells)


def _highlighted(code: str, language: str, _: str) -> str:
    if not language:
        return html.escape(code)
    return str(highlight(code, get_lexer_by_name(language), HtmlFormatter(nowrap=True)))


def commands() -> tuple[str, list[Heading]]:
    """What every ``uadtk COMMAND --help`` prints."""
    names = _children(_help())
    headings = [Heading(2, name, f"uadtk {name}") for name in names]
    parts = ["<h1>Commands</h1>", "<p>What <code>--help</code> prints.</p>", _pre(_help())]
    for name, heading in zip(names, headings, strict=True):
        parts += [f'<h2 id="{name}">{heading.text}</h2>', _pre(_help(name))]
        for child in _children(_help(name)):
            parts.append(f"<details><summary>{heading.text} {child}</summary>{_pre(_help(name, child))}</details>")
    return "\n".join(parts), headings


def _help(*words: str) -> str:
    """As a terminal of 80 columns shows it."""
    from uadtk.cli import main

    printed = io.StringIO()
    columns = patch.dict(os.environ, {"COLUMNS": "80"})
    with columns, contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return printed.getvalue()


def _children(text: str) -> list[str]:
    """The commands that a help lists."""
    return re.findall(r"^  ([a-z][\w-]*) ", text.partition("\nCommands:\n")[2], re.MULTILINE)


def _pre(text: str) -> str:
    return f"<pre><code>{html.escape(text)}</code></pre>"


def _write(site: Path, page: str, name: str, body: str, headings: list[Heading]) -> None:
    environment = Environment(
        loader=FileSystemLoader(ROOT / "docs"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    values: dict[str, Any] = {
        "name": name,
        "page": page,
        "pages": PAGES,
        "body": body,
        "headings": [one for one in headings if one.level == 2],
        "version": uadtk.__version__,
        "colours": [HtmlFormatter(style=style).get_style_defs("pre") for style in ("default", "github-dark")],
    }
    (site / page).parent.mkdir(parents=True, exist_ok=True)
    (site / page).write_text(environment.get_template("page.html.j2").render(values), encoding="utf-8")
