from __future__ import annotations

import re
from pathlib import Path
from time import process_time
from typing import Any

import pytest

from tests.browser import browser, missing
from tests.commands import call
from tests.report.test_page import Page
from uadtk.io.results import ScanState
from uadtk.report.cohort_page import cohort_html

EVIL = "<img src=x onerror=alert(1)>\"'&\u202e"


def scan(folder: Path, name: str, findings: int = 3, volume_ml: float = 1.0, **more: Any) -> ScanState:
    names = {"report": "report.html", "thumbnail": "thumbnail.png"}
    files = {key: folder / f"{name}_{end}" for key, end in names.items()}
    gate = {"light": "amber", "reasons": [{"what": f"noisy {name}"}]}
    given = {"light": "amber", "files": files, "provenance": {"gate": gate}, **more}
    return ScanState(folder, name, "done", findings=findings, volume_ml=volume_ml, **given)


def failed(folder: Path, name: str) -> ScanState:
    return ScanState(folder, name, "failed", error=f"{name}: cannot be read")


def test_every_scan_is_listed_with_links_and_reasons(tmp_path: Path) -> None:
    page = Page(cohort_html([scan(tmp_path, "sub 01#a"), failed(tmp_path, "sub-02")], "out"))
    assert page.open == []
    links = [tag["href"] for name, tag in page.tags if name == "a"]
    assert links == ["sub%2001%23a_report.html"]
    assert page.sources == ["sub%2001%23a_thumbnail.png"]
    for words in ("2 scans", "1 done, 1 failed", "sub-02: cannot be read", "noisy sub 01#a", "1.000"):
        assert words in page.text


def test_outliers_are_marked(tmp_path: Path) -> None:
    usual = [scan(tmp_path, f"s{i}", findings=10 + i % 3, volume_ml=5 + 0.1 * (i % 5)) for i in range(12)]
    page = Page(cohort_html([*usual, scan(tmp_path, "odd", findings=11, volume_ml=400.0)], "out"))
    assert re.findall(r'data-name="(\w+)"[^>]* data-outlier', page.html) == ["odd"]
    assert "outlier: large volume" in page.text
    assert "outlier:" not in cohort_html([*usual[:3], scan(tmp_path, "odd", volume_ml=400.0)], "out")


def test_an_outlier_among_scans_without_findings_is_marked(tmp_path: Path) -> None:
    healthy = [scan(tmp_path, f"s{i}", findings=i // 8, volume_ml=0.1 * (i // 8)) for i in range(12)]
    page = cohort_html([*healthy, scan(tmp_path, "odd", findings=60, volume_ml=90.0)], "out")
    assert re.findall(r'data-name="(\w+)"[^>]* data-outlier', page) == ["odd"]
    assert "outlier: many findings, large volume" in page
    assert "outlier:" not in cohort_html(healthy, "out")


def test_names_are_escaped(tmp_path: Path) -> None:
    page = Page(cohort_html([scan(tmp_path, EVIL), failed(tmp_path, EVIL)], EVIL))
    assert page.open == []
    assert {tag for tag, _ in page.tags if tag == "img"} == {"img"}
    assert len(page.sources) == 1
    assert "<img src=x" not in page.html
    assert "\u202e" not in page.html
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_two_thousand_scans_are_quick_and_small(tmp_path: Path) -> None:
    states = [scan(tmp_path, f"sub-{i:04d}_ses-01_FLAIR", findings=i % 90, volume_ml=i / 7) for i in range(2000)]
    start = process_time()
    html = cohort_html(states, "out")
    assert process_time() - start < 5
    assert len(html.encode()) < 5_000_000


def test_command_refuses_what_is_no_result(tmp_path: Path) -> None:
    call("report", tmp_path / "none").refused(2, "no such folder")
    call("report", tmp_path).refused(3, "holds no result")
    (tmp_path / "s_failure.json").write_text('{"error": "cannot be read"}')
    page = tmp_path / "index.html"
    page.write_text("mine")
    call("report", tmp_path).refused(2, "index.html", "was not made by uadtk")
    page.unlink()
    for _ in range(2):
        assert call("report", tmp_path).out == f"{page}\n"
    assert "cannot be read" in page.read_text()


@pytest.mark.slow
def test_it_sorts_and_filters_in_a_browser(tmp_path: Path) -> None:
    if reason := missing("chromium"):
        pytest.skip(reason)
    states = [scan(tmp_path, f"sub-{i}", findings=i % 90, volume_ml=float((i * 7) % 1000)) for i in range(2000)]
    (tmp_path / "index.html").write_text(cohort_html([*states, failed(tmp_path, "broken")], "out"))
    (tmp_path / "browser").mkdir()
    with browser("chromium", tmp_path / "browser") as page:
        page.open(tmp_path / "index.html")
        visible = "[...document.querySelectorAll('#scans tbody tr:not([hidden])')].map((row) => row.dataset.name)"
        page.click("button[data-sort=volume]")
        assert page.run(f"{visible}.slice(0, 2)") == ["sub-857", "sub-1857"]
        page.click("button[data-sort=name]")
        assert page.run(f"{visible}.slice(0, 3)") == ["broken", "sub-0", "sub-1"]
        page.click("#words")
        page.press(*"cannot")
        assert page.run(visible) == ["broken"]
        assert page.run("shown.textContent") == "1 of 2001 scans"
        page.click("#words")
        page.press(*["\ue003"] * len("cannot"))  # backspace
        last = "[...document.querySelectorAll('#scans tbody tr')].at(-1).querySelector('a')"
        assert page.run(f"{last}.checkVisibility({{contentVisibilityAuto: true}})") is False  # nor laid out
        page.run(f"{last}.scrollIntoView()")
        page.until(f"{last}.checkVisibility({{contentVisibilityAuto: true}})")
        spent = page.run("performance.getEntriesByType('navigation')[0].domComplete")
        print(f"opened in {spent:.0f} ms")
