from __future__ import annotations

import base64
import hashlib
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from time import process_time
from typing import Any

import numpy as np
import pytest
from PIL import Image

from uadtk.core.finding import Gate, Reason
from uadtk.core.spec import Spec
from uadtk.core.volume import Mask
from uadtk.report.listing import LISTED
from uadtk.report.page import report_html

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
        if self.open and self.open[-1] not in ("style", "script"):
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
    assert not {"link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    without_data = re.sub(r"data:image/png;base64,[\w+/=]+|(?s:<script.*?</script>)", "", page.html)
    assert not re.search(r"//\w|url\(|@import|href", without_data)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_the_only_script_is_the_one_that_the_policy_names(make) -> None:
    page = Page(report_html(make(lesions=(LEFT_FRONT,), provenance=PROVENANCE)))
    policy = next(tag["content"] for name, tag in page.tags if name == "meta" and "http-equiv" in tag)
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe-eval" not in policy
    assert "script-src 'sha256-" in policy
    scripts = re.findall(r"(?s)<script([^>]*)>(.*?)</script>", page.html)
    assert len(scripts) == len([name for name, _ in page.tags if name == "script"])
    running = [text for attributes, text in scripts if "type=" not in attributes]
    digest = base64.b64encode(hashlib.sha256(running[0].encode()).digest()).decode()
    assert len(running) == 1
    assert f"'sha256-{digest}'" in policy


def test_page_says_what_was_done(make) -> None:
    text = Page(report_html(make(lesions=(LEFT_FRONT,), provenance=PROVENANCE))).text
    assert text.count("For research use only. Not a medical device.") == 1
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


def test_text_that_turns_the_direction_of_writing_is_shown_escaped(make: Any) -> None:
    evil = "\u202egnp\u2066"
    provenance = {"input": {"path": evil, "notes": [evil]}, "options": {"model": {"name": evil}}, evil: {evil: [evil]}}
    segmentation = make(lesions=(LEFT_FRONT,), provenance=provenance)
    point = replace(segmentation.point, name=evil, target=evil, strategy=Spec(evil), scorer=Spec(evil), date=evil)
    gate = Gate((Reason("amber", evil, evil, 1, evil),))
    html = report_html(replace(segmentation, point=point, gate=gate))
    assert not {"\u202e", "\u2066"} & set(html)
    assert Page(html).text.count(r"\u202egnp\u2066") > 10


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
    assert "the highest peak first" not in page.text
    assert page.captions()[:4] == ["scan", "reconstruction", "score", "mask"]
    segmentation.scoring.score.voxels[30, 10, 20] = 0.8
    assert "0.8, above the threshold, but its component is too small" in Page(report_html(segmentation)).text


def test_only_the_first_have_pictures_and_a_long_table_is_cut(make) -> None:
    boxes = tuple(np.s_[x : x + 1, y : y + 1, 10:11] for x in range(5, 35) for y in range(6, 14))
    assert len(boxes) > LISTED
    page = Page(report_html(make(lesions=boxes)))
    assert f"Pictures of the first 8 of {len(boxes)} findings" in page.text
    assert page.captions().count("score") == 8
    assert page.html.count("<tr data-label=") == LISTED
    assert f"{len(boxes) - LISTED} more are in findings.tsv only." in page.text


def test_pointers_are_at_the_peak_inside_a_ring(make) -> None:
    # A ring whose centroid lies in its hole.
    ring = np.s_[18:25, 18:25, 14:15]
    segmentation = make(lesions=(ring,))
    hole = np.s_[20:23, 20:23, 14:15]
    segmentation.components.voxels[hole] = 0
    segmentation.scoring.score.voxels[24, 21, 14] = 0.95
    peak = (96.0, 84.0, 56.0)
    (finding,) = segmentation.findings
    page = Page(report_html(replace(segmentation, findings=(replace(finding, peak=0.95, peak_mm=peak),))))
    assert "peak 0.95 at (96, 84, 56) mm" in page.text
    across, down = page.pointer()
    red = page.picture(3)
    rows, columns = np.nonzero((red[..., 0] > 240) & (red[..., 2] < 60))
    assert across == pytest.approx(columns.min() / red.shape[1], abs=0.04)  # x is greatest at the left
    assert rows.min() / red.shape[0] < down < rows.max() / red.shape[0]


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


def test_healthy_scans_stand_beside_the_count(make) -> None:
    segmentation = make(lesions=(LEFT_FRONT,))
    assert "a median of" not in Page(report_html(segmentation)).text
    measured = {"findings_median": 4.0, "findings_p80": 7.0, "findings_scans": 13.0}
    whole = replace(segmentation, point=replace(segmentation.point, measured=measured))
    assert (
        "healthy scans show a median of 4 findings of 8 voxels or more, at most 7 in 80 % (n = 13)"
        in Page(report_html(whole)).text
    )
    part = replace(segmentation, point=replace(segmentation.point, measured={**measured, "brain_counted": 0.25}))
    words = "the lesion-free 25% of the calibration brains shows a median of 4 findings of 8 voxels or more, "
    words += "at most 7 in 80 % (n = 13); at that rate, a whole brain has 16.0"
    assert words in Page(report_html(part)).text


def test_small_findings_are_folded_and_ranks_go_by_the_peak(make) -> None:
    boxes = (np.s_[8:12, 10:14, 10:14], np.s_[20:21, 20:21, 20:21], np.s_[30:33, 30:33, 15:18])
    segmentation = make(spacing=(3.0, 3.0, 3.0), lesions=boxes)
    peaks = (0.6, 0.95, 0.9)
    findings = tuple(replace(f, peak=peak) for f, peak in zip(segmentation.findings, peaks, strict=True))
    page = Page(report_html(replace(segmentation, findings=findings)))
    assert re.findall(r'<tr data-label="(\d)"><td>(\d)</td>', page.html) == [("3", "2"), ("1", "3"), ("2", "1")]
    assert page.html.index("1 below 0.05 ml") < page.html.index('<tr data-label="2">')
    assert "3 findings" in page.text
    assert "2 of at least 0.05 ml" in page.text


def test_whole_scan_is_quick_small_and_stable(make) -> None:
    boxes = tuple(np.s_[20 * i + 15 : 20 * i + 20, 100:110, 20 * i + 10 : 20 * i + 14] for i in range(8))
    segmentation = make(shape=(182, 218, 182), spacing=(1.0, 1.0, 1.0), lesions=boxes, noise=0.3)
    first = report_html(segmentation)
    start = process_time()
    second = report_html(segmentation)
    assert process_time() - start < 2.0
    assert first == second
    assert len(first.encode()) < 5_000_000  # noise everywhere: no scan compresses worse


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
