"""The documentation is built without a warning, no link is dead, and every public name is in the API reference."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.browser import browser, missing
from tests.report.test_page import Page

ROOT = Path(__file__).parent.parent
NETWORKS = sorted(path.stem for path in ROOT.glob("uadtk/networks/[!_]*.py"))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command: list[str | Path] = [sys.executable, ROOT / "docs" / "build.py", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == str(folder / "index.html")
    return folder


def shown(site: Path, module: str) -> set[str]:
    """The names that have an entry of their own on the page of a module."""
    page = site.joinpath("api", *module.split(".")).with_suffix(".html").read_text(encoding="utf-8")
    return set(re.findall(r'<section id="(\w+)">', page))


@pytest.mark.parametrize("module", ["uadtk.interface", "uadtk.plugin", "uadtk.kernels", "uadtk.testing"])
def test_every_name_that_is_exported_is_shown(site: Path, module: str) -> None:
    exported = importlib.import_module(module).__all__
    assert set(exported) - shown(site, module) == set()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_building_block_is_shown(site: Path, name: str) -> None:
    module = importlib.import_module(f"uadtk.networks.{name}")
    defined = {
        key
        for key, value in vars(module).items()
        if not key.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    }
    assert defined - shown(site, f"uadtk.networks.{name}") == set()


def test_every_hook_is_shown(site: Path) -> None:
    hooks = {name for name in vars(importlib.import_module("uadtk.hookspecs")) if name.startswith("uadtk_")}
    assert hooks
    assert hooks - shown(site, "uadtk.hookspecs") == set()


def test_the_gallery_has_a_folder_its_reports_and_a_follow_up(site: Path) -> None:
    page = Page((site / "gallery" / "index.html").read_text(encoding="utf-8"))
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert links == ["phantom_report.html", "phantom_thick_slices_report.html"]
    found = {path.name for path in (site / "gallery").iterdir()}
    assert found == {"index.html", "compare.html", *links, *page.sources}
    for link in [*links, "compare.html"]:
        assert Page((site / "gallery" / link).read_text(encoding="utf-8")).open == []


def test_it_needs_no_network_and_says_the_version(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r'(?:src="|<link[^>]+href=")https?:', text), page
    assert "uadtk 0." in (site / "api" / "uadtk" / "plugin.html").read_text(encoding="utf-8")


class Links(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.anchors, self.targets = set[str](), set[str]()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if key in ("id", "href", "src") and value:
                (self.anchors if key == "id" else self.targets).add(value)


def links(page: Path) -> tuple[set[str], set[str]]:
    """The anchors of a page, and where it links to."""
    found = Links(page.read_text(encoding="utf-8"))
    return found.anchors, found.targets


def test_no_link_is_dead(site: Path) -> None:
    found = {page: links(page) for page in site.rglob("*.html") if not page.is_relative_to(site / "files")}
    assert len(found) > 40
    dead = []
    for page, (_, targets) in found.items():
        for target in targets:
            path, _, anchor = target.partition("#")
            there = (page.parent / unquote(path)).resolve() if path else page
            if re.match(r"(https?|data|mailto):", target):
                continue
            own = anchor and there.parent == site  # pdoc links to members of torch that it does not show
            if not there.exists() or (own and unquote(anchor) not in found[there][0]):
                dead.append((str(page.relative_to(site)), target))
    assert sorted(dead) == []


def test_every_page_has_the_navigation_and_every_guide_is_in_it(site: Path) -> None:
    for page in site.glob("*.html"):
        assert {"index.html", "start.html", "radiologist.html", "api/index.html"} <= links(page)[1], page
    guides = {f"{path.stem}.html" for path in (ROOT / "docs" / "guides").glob("*.md")}
    assert guides <= links(site / "index.html")[1]
    assert "../index.html" in links(site / "api" / "index.html")[1]
    assert "../../index.html" in links(site / "api" / "uadtk" / "interface.html")[1]


def test_every_command_has_its_help(site: Path) -> None:
    anchors, _ = links(site / "commands.html")
    commands = {path.stem.replace("_", "-") for path in ROOT.glob("uadtk/cli/[!_]*.py")}
    assert commands <= anchors
    text = Page((site / "commands.html").read_text(encoding="utf-8")).text
    assert {"Usage: uadtk segment", "Usage: uadtk train vae"} <= set(re.findall(r"Usage: uadtk \w+(?: vae)?", text))


@pytest.mark.skipif(bool(missing("chromium")), reason=missing("chromium"))
def test_no_page_is_wider_than_a_phone(site: Path, tmp_path: Path) -> None:
    with browser("chromium", tmp_path) as opened:
        opened.size(400, 800)
        for page in [*site.glob("*.html"), site / "api" / "index.html"]:
            opened.open(page)
            assert opened.run("document.documentElement.scrollWidth") <= 400, page
            assert opened.lines == [], page
