"""The API reference is built without a warning, and every public name is in it."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

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
    page = site.joinpath(*module.split(".")).with_suffix(".html").read_text(encoding="utf-8")
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


def test_the_gallery_has_a_folder_and_its_reports(site: Path) -> None:
    page = Page((site / "gallery" / "index.html").read_text(encoding="utf-8"))
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert links == ["phantom_report.html", "phantom_thick_slices_report.html"]
    assert {path.name for path in (site / "gallery").iterdir()} == {"index.html", *links, *page.sources}
    for link in links:
        assert Page((site / "gallery" / link).read_text(encoding="utf-8")).open == []


def test_it_needs_no_network_and_says_the_version(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r'(?:src="|<link[^>]+href=")https?:', text), page
    assert "uadtk 0." in (site / "uadtk" / "plugin.html").read_text(encoding="utf-8")
    assert (site / "index.html").is_file()
