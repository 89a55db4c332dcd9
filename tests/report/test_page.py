from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from PIL import Image

from uadtk.core.finding import Gate, Reason
from uadtk.core.spec import Spec
from uadtk.core.volume import Mask
from uadtk.report.page import LISTED, report_html

VOID = {"meta", "img", "br", "hr", "link", "input"}
LEFT_FRONT = np.s_[8:11, 36:39, 14:17]  # low x is the patient's left, high y the front
PROVENANCE = {
    "versions": {"uadtk": "0.1.0"},
    "input": {"path": "/data/sub-01/flair.nii.gz"},
    "checkpoint": {"digest": "c0ffee"},
    "options": {"model": {"name": "scalespace", "dist": "uadtk", "version": "0.1.0"}, "point": {"name": "never twice"}},
    "seconds": {"network": 1.25},
}


class Page(HTMLParser):
    """Tags in order, unclosed tags, images by caption, and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.open: list[str] = []
        self.tags: list[Any] = []
        self.sources: list[Any] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.sources.append(dict(attrs)["src"] or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def picture(self, index: int) -> np.ndarray:
        data = base64.b64decode(self.sources[index].removeprefix("data:image/png;base64,"))
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)

    def captions(self) -> list[str]:
        return re.findall(r"<figcaption>(.*?)</figcaption>", self.html)

    def pointer(self) -> tuple[float, float]:
        x, y = re.search(r"--x:([\d.]+)%;--y:([\d.]+)%", self.html).groups()
        return float(x) / 100, float(y) / 100


def centre(bright: np.ndarray) -> tuple[float, float]:
    """Middle of the True pixels, as fractions from left and top."""
    rows, columns = np.nonzero(bright)
    return (columns.mean() + 0.5) / bright.shape[1], (rows.mean() + 0.5) / bright.shape[0]


def test_page_is_well_formed_and_needs_no_network(make) -> None:
    page = Page(report_html(make(lesions=(LEFT_FRONT,), provenance=PROVENANCE)))
    assert page.open == []
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    without_pictures = re.sub(r"data:image/png;base64,[\w+/=]+", "", page.html)
    assert not re.search(r"//\w|url\(|@import|href", without_pictures)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_page_says_what_was_done(make) -> None:
    text = Page(report_html(make(lesions=(LEFT_FRONT,), provenance=PROVENANCE))).text
    assert text.count("For research use. Not a medical device.") == 1
    for fact in (
        "sub-01/flair.nii.gz",
        "scalespace",
        "residual",
        "p98: score > 0.5",
        "98 % below",
        "20 scans",
        "given",
    ):
        assert fact in text
    assert "1 finding 1.73 ml in total" in text  # 27 voxels of 64 mm³
    for line in ("digest c0ffee", "network 1.25 s", "uadtk 0.1.0", "patient's left is on the right"):
        assert line in text
    assert "never twice" not in text


def test_page_without_provenance(make) -> None:
    page = Page(report_html(make(lesions=(LEFT_FRONT,))))
    assert page.open == []
    assert "not recorded" in page.text


def test_names_from_outside_are_escaped(make) -> None:
    evil = "<img src=x onerror=alert(1)>&"
    segmentation = make(
        lesions=(LEFT_FRONT,),
        provenance={"input": {"path": f"{evil}.nii.gz"}, "options": {"model": {"name": evil}}, evil: {evil: evil}},
    )
    segmentation = replace(segmentation, point=replace(segmentation.point, target=evil, scorer=Spec(evil)))
    page = Page(report_html(segmentation))
    assert evil not in page.html
    assert evil in page.text
    assert all(source.startswith("data:") for source in page.sources)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "PIR", "ASL", "SRP"])
def test_left_of_the_patient_is_on_the_right_whatever_the_storage(make, codes: str) -> None:
    page = Page(report_html(make(lesions=(LEFT_FRONT,), codes=codes)))
    scan = page.picture(0)[..., 0]
    across, down = centre(scan > 200)
    assert across > 0.6
    assert down < 0.4
    assert page.pointer() == pytest.approx((across, down), abs=0.01)
    assert page.sources == Page(report_html(make(lesions=(LEFT_FRONT,)))).sources


def test_oblique_scan_is_shown_along_its_nearest_axes(make) -> None:
    turn = np.eye(4)
    c, s = np.cos(0.3), np.sin(0.3)
    turn[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag((4.0, 4.0, 4.0))
    turn[:3, 3] = (-70, 30, 12)
    for codes in ("RAS", "LSA"):
        page = Page(report_html(make(lesions=(LEFT_FRONT,), affine=turn, codes=codes)))
        across, down = centre(page.picture(0)[..., 0] > 200)
        assert across > 0.6
        assert down < 0.4
        assert page.pointer() == pytest.approx((across, down), abs=0.01)


def test_all_four_pictures_show_the_same_plane(make) -> None:
    page = Page(report_html(make(lesions=(LEFT_FRONT,))))
    assert page.captions()[:4] == ["scan", "reconstruction", "score", "mask"]
    scan, normal, score, mask = (page.picture(i) for i in range(4))
    box = scan[..., 0] > 200
    assert box.any()
    assert not (normal[box] > 200).any()
    assert (score[box].sum(axis=1) > score[~box].sum(axis=1).max()).mean() > 0.9
    red = (mask[..., 0] > 240) & (mask[..., 2] < 60)
    assert red.any()
    assert centre(red) == pytest.approx(centre(box), abs=0.01)
    assert not (red & (scan[..., 0] > 250)).any()  # drawn around the finding, not over it


def test_column_disappears_without_reconstruction(make) -> None:
    page = Page(report_html(make(lesions=(LEFT_FRONT,), reconstruction=False)))
    assert page.captions()[:3] == ["scan", "score", "mask"]
    assert "reconstruction" not in page.text


def test_no_findings_shows_the_highest_score(make) -> None:
    segmentation = make()
    segmentation.scoring.score.voxels[30, 10, 20] = 0.4
    page = Page(report_html(segmentation))
    assert "No findings" in page.text
    assert "Highest score 0.4, not above the threshold · plane at z = 80 mm" in page.text
    assert "Table of findings" not in page.text
    assert page.captions()[:4] == ["scan", "reconstruction", "score", "mask"]
    segmentation.scoring.score.voxels[30, 10, 20] = 0.8
    assert "0.8, above the threshold, but its component is too small" in Page(report_html(segmentation)).text


def test_only_the_largest_have_pictures_and_a_long_table_is_cut(make) -> None:
    boxes = tuple(np.s_[x : x + 1, y : y + 1, 10:11] for x in range(5, 35) for y in range(6, 14))
    assert len(boxes) > LISTED
    page = Page(report_html(make(lesions=boxes)))
    assert f"The 8 largest of {len(boxes)} findings" in page.text
    assert page.captions().count("score") == 8
    assert page.html.count("<tr><td>") == LISTED
    assert f"The {LISTED} largest of {len(boxes)}; all are in findings.tsv." in page.text


def test_ring_is_shown_where_it_is(make) -> None:
    # An arc over planes 10 to 20 that does not intersect the plane of its centroid.
    segmentation = make(lesions=(np.s_[20:22, 20:22, 10:21],))
    segmentation.components.voxels[:, :, 11:18] = 0
    page = Page(report_html(segmentation))
    assert "plane at z = 72 mm" in page.text  # plane 18; the centroid lies in 15
    red = page.picture(3)
    assert ((red[..., 0] > 240) & (red[..., 2] < 60)).any()


def test_thick_slices_and_uneven_pixels_keep_their_proportions(make) -> None:
    page = Page(report_html(make(shape=(100, 60, 9), spacing=(1.5, 3.0, 5.0), lesions=(np.s_[40:60, 25:35, 4:5],))))
    scan = page.picture(0)[..., 0]
    rows, columns = np.nonzero(scan > 200)
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), rel=0.05)  # 30 mm each way
    assert scan.shape[0] / scan.shape[1] == pytest.approx((60 - 10 + 4) * 3.0 / ((100 - 8 + 8) * 1.5), rel=0.02)
    assert [c for c in page.captions() if c.endswith("mm")] == ["10 mm", "15 mm", "20 mm", "25 mm", "30 mm"]


def test_empty_brain_mask_still_makes_a_page(make) -> None:
    segmentation = make()
    nothing = Mask(np.zeros(segmentation.mask.shape, bool), segmentation.mask.affine)
    page = Page(report_html(replace(segmentation, scoring=replace(segmentation.scoring, brain=nothing))))
    assert page.open == []
    assert "0 of 0 brain voxels" in page.text


def test_whole_scan_is_quick_small_and_stable(make) -> None:
    boxes = tuple(np.s_[20 * i + 15 : 20 * i + 20, 100:110, 20 * i + 10 : 20 * i + 14] for i in range(8))
    segmentation = make(shape=(182, 218, 182), spacing=(1.0, 1.0, 1.0), lesions=boxes, noise=0.3)
    first = report_html(segmentation)
    start = perf_counter()
    second = report_html(segmentation)
    assert perf_counter() - start < 2.0  # a tenth of this on an idle core
    assert first == second
    assert len(first.encode()) < 2_000_000  # noise everywhere: no scan compresses worse


def test_the_light_its_reasons_and_the_notes_come_first_and_are_escaped(make: Any) -> None:
    segmentation = make()
    gate = Gate(
        (Reason("red", "name", "its <name> says T1", "x", "FLAIR & co"), Reason("amber", "noise", "noisy", 1, ""))
    )
    notes = ["sform has spacing 1 mm, <b>qform</b> 3 mm", "left is\u202eunknown"]
    provenance = {**PROVENANCE, "input": {**PROVENANCE["input"], "notes": notes}}  # type: ignore[dict-item]
    html = report_html(replace(segmentation, gate=gate, provenance=provenance))
    page, top = Page(html), html[: html.index("</header>")]
    assert "Input red" in page.text
    for text in ("its &lt;name&gt; says T1", "FLAIR &amp; co", "noisy", "1 mm, &lt;b&gt;qform&lt;/b&gt; 3 mm"):
        assert text in top
    assert [top.count(f'class="light {light}"') for light in ("red", "amber", "green")] == [2, 1, 0]
    assert "\u202e" not in html
    assert "Read with these notes" not in report_html(replace(segmentation, provenance=PROVENANCE))
