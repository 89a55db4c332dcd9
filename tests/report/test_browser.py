"""The page of a scan in real browsers, with real clicks and keys."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.browser import Browser, browser, missing
from tests.report.conftest import make_segmentation
from uadtk.core.finding import Segmentation
from uadtk.core.volume import ScoreMap
from uadtk.report.page import report_html

pytestmark = pytest.mark.slow

EVIL = "</script><img src=x onerror=\"document.title='hit'\">'\" ‏עברית"
BOXES = (np.s_[8:12, 36:40, 14:18], np.s_[24:26, 12:14, 8:10], np.s_[30:31, 30:31, 20:21])
PEAKS = (0.7, 0.95, 0.8)


def brain(name: str = EVIL) -> Segmentation:
    """A large weak finding, a smaller one with the highest peak, and one of a single voxel of 27 mm³."""
    segmentation = make_segmentation(
        spacing=(3.0, 3.0, 3.0),
        lesions=BOXES,
        noise=0.05,
        provenance={
            "input": {"path": f"/data/{name}/flair.nii.gz", "sha256": "5ca9"},
            "checkpoint": {"digest": "c0ffee"},
        },
    )
    score = segmentation.scoring.score.voxels.copy()
    for box, peak in zip(BOXES, PEAKS, strict=True):
        score[box] = 0.6
        score[tuple(axis.start for axis in box)] = peak
    findings = tuple(
        replace(f, peak=peak, mean=0.6, peak_mm=(3.0 * box[0].start, 3.0 * box[1].start, 3.0 * box[2].start))
        for f, peak, box in zip(segmentation.findings, PEAKS, BOXES, strict=True)
    )
    scoring = replace(segmentation.scoring, score=ScoreMap(score, segmentation.mask.affine))
    return replace(segmentation, scoring=scoring, findings=findings)


@pytest.fixture(scope="module", params=["chromium", "firefox"])
def tab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if reason := missing(request.param):
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp(request.param)
    with browser(request.param, folder) as opened:
        opened.size(1100, 900)
        opened.folder = folder  # type: ignore[attr-defined]
        yield opened


@pytest.fixture
def page(tab: Browser, tmp_path: Path) -> Browser:
    (tmp_path / "report.html").write_text(report_html(brain()), encoding="utf-8")
    tab.lines.clear()
    tab.open(tmp_path / "report.html")
    assert tab.until("document.documentElement.dataset.viewer") == "ready", tab.lines
    return tab


def crosshair_mm(page: Browser) -> list[float]:
    return page.run("Array.from(viewer.frac2mm(viewer.scene.crosshairPos)).slice(0, 3)")


def test_it_opens_at_the_first_finding_without_complaint(page: Browser) -> None:
    assert page.lines == []
    assert page.run("document.title").endswith("uadtk")
    assert page.run("[...document.images].every((image) => image.complete && image.naturalWidth)")
    assert "<img src=x onerror=" in page.run("document.querySelector('h1').textContent")
    assert crosshair_mm(page) == pytest.approx([72, 36, 24], abs=1.6)
    assert page.run("chosen.textContent") == "Finding 2 (rank 1): 0.216 ml, peak 0.950"


def test_a_click_on_a_finding_goes_to_its_peak(page: Browser) -> None:
    page.click('tr[data-label="1"] button')
    assert crosshair_mm(page) == pytest.approx([24, 108, 42], abs=1.6)
    assert "Finding 1" in page.run("chosen.textContent")
    assert "x 24, y 108, z 42 mm · score 0.7" in page.run("where.textContent")
    page.click("#next")  # into the folded ones
    assert page.run("document.querySelector('details.small').open")
    assert "Finding 3" in page.run("chosen.textContent")


def test_the_slider_recounts(page: Browser) -> None:
    assert page.run("count.textContent").startswith("score > 0.5000: 3 findings, 1.971 ml")
    page.click("#threshold", 0.72)
    words = page.run("count.textContent")
    k = page.run("Number(threshold.value)")
    value = float(words.split()[2].rstrip(":"))
    assert 0.6 < value < 0.95
    above = sum(peak > value for peak in PEAKS)
    assert f"{above} finding" in words
    assert f"{above * 0.027:.3f} ml" in words
    assert page.run("viewer.volumes[1].cal_min") == k + 1
    ends = [float(page.run(f"{end}.textContent")) for end in ("lowest", "highest")]  # of the colour scale
    assert ends == pytest.approx([0.25, page.run("JSON.parse(settings.textContent).thresholds.at(-1)")], rel=0.01)
    page.click("#back")
    assert "(p98)" in page.run("count.textContent")


def test_keys_page_and_judge(page: Browser) -> None:
    page.run("document.getElementById('canvas').focus()")
    before = crosshair_mm(page)
    page.press("ArrowUp", "ArrowUp", "ArrowLeft", "w")
    assert np.subtract(crosshair_mm(page), before) == pytest.approx([3, 3, 6], abs=0.1)
    page.press("n", "a", "n", "r", "o")
    assert page.run("judged.textContent") == "1 accepted, 1 rejected of 3 listed"
    assert page.run("document.querySelector('input[name=overlay]:checked').value") == "mask"
    assert page.run("viewer.volumes[2].opacity") == 0.75
    # while a comment is being typed, letters are letters
    page.click('tr[data-label="2"] input[type=text]')
    page.press(*"=narrow,\to")
    assert page.run("judged.textContent") == "1 accepted, 1 rejected of 3 listed"


def test_voxels_below_the_threshold_are_not_covered(page: Browser, tmp_path: Path) -> None:
    def picture() -> np.ndarray:
        page.run("(stage.scrollIntoView(), 1)")
        page.screenshot(tmp_path / "shot.png")
        return np.asarray(Image.open(tmp_path / "shot.png").convert("RGB")).astype(int)

    with_score = picture()
    page.run("(document.querySelector('input[value=none]').click(), 1)")
    page.run("(document.querySelector('input[value=score]').blur(), 1)")
    without = picture()
    different = np.abs(with_score - without).max(axis=2) > 40
    assert 0 < different.mean() < 0.01  # the finding, and the radio button
    assert (without.max(axis=2) > 60).mean() > 0.1


def saved(page: Browser, suffix: str) -> str:
    folder: Path = page.folder  # type: ignore[attr-defined]
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for path in folder.glob(f"*{suffix}"):
            if text := path.read_text(encoding="utf-8"):
                path.unlink()
                return text
        time.sleep(0.2)
    raise TimeoutError(list(folder.iterdir()))


def test_verdicts_are_saved(page: Browser) -> None:
    page.run("(document.querySelector('tr[data-label=\"2\"] select').focus(), 1)")
    page.press("a")  # a real key chooses "accept"
    page.click('tr[data-label="2"] input[type=text]')
    page.press(*'=1+1 "so" <b>')
    page.click('tr[data-label="1"] input[type=text]')
    page.press(*'"soft" edge\\')
    page.run("""(document.querySelector('details.small').open = true)""")
    page.click('tr[data-label="3"] input[type=text]')
    page.press(*"-2+3")
    page.click("#tsv")
    table = list(csv.DictReader(saved(page, "_review.tsv").splitlines(), delimiter="\t"))  # as spreadsheets, R, pandas
    assert [row["label"] for row in table] == ["2", "1", "3"]
    assert [row["verdict"] for row in table] == ["accepted", "", ""]
    assert [row["comment"] for row in table] == ['\'=1+1 "so" <b>', '"soft" edge\\', "'-2+3"]
    assert float(table[0]["peak_x_mm"]) == 72
    page.click("#json")
    record = json.loads(saved(page, "_review.json"))
    assert record["sha256"] == "5ca9"
    assert record["findings"][0]["comment"] == '=1+1 "so" <b>'
    assert record["threshold"] == 0.5


def test_it_fits_a_phone(page: Browser, tmp_path: Path) -> None:
    page.size(400, 800)
    try:
        page.open(tmp_path / "report.html")
        assert page.until("document.documentElement.dataset.viewer") == "ready"
        assert page.run("document.documentElement.scrollWidth") <= 400
        assert page.run("stage.dataset.view") == "axial"
        before = crosshair_mm(page)
        page.click("#up")
        assert np.subtract(crosshair_mm(page), before) == pytest.approx([0, 0, 3], abs=0.1)
    finally:
        page.size(1100, 900)


def test_without_webgl_pictures_and_counts_remain(tab: Browser, tmp_path: Path) -> None:
    html = report_html(brain())
    (tmp_path / "flat.html").write_text(html, encoding="utf-8")
    blocked = "() => { HTMLCanvasElement.prototype.getContext = () => null; }"
    script = tab.do("script.addPreloadScript", functionDeclaration=blocked)["script"]
    try:
        tab.open(tmp_path / "flat.html")
        assert tab.until("document.documentElement.dataset.viewer") == "flat"
        assert not tab.run("stage.checkVisibility()")
        assert tab.run("document.querySelector('.flat-only').checkVisibility()")
        tab.click("#threshold", 0.9)
        assert "1 finding," in tab.run("count.textContent")
        tab.click('tr[data-label="1"] button')
        assert "Finding 1" in tab.run("chosen.textContent")
    finally:
        tab.do("script.removePreloadScript", script=script)
