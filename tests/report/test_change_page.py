"""The page, the table and the JSON of a follow-up, made by hand."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from uadtk.core.volume import Mask, Scan, Volume
from uadtk.metrics.change import Marked, changes
from uadtk.metrics.repeatability import Repeatability, Size
from uadtk.preparation.agreement import Agreement
from uadtk.report.change import LISTED, SHOWN, Exam, FollowUp, as_json, as_text, as_tsv, change_html

SHAPE, AFFINE = (40, 50, 30), np.diag([4.0, 4.0, 4.0, 1.0])
LIMITS = Repeatability("ab", 0.5, 7, "python measure.py <out>", (1.0, 1.0, 3.0), (Size(1.0, 100, 30, 0.1),))


def exam(name: str, *boxes: tuple[slice, slice, slice], gate: tuple[str, ...] = ()) -> Exam:
    brain = np.zeros(SHAPE, bool)
    brain[4:-4, 5:-5, 2:-2] = True
    scan, labels = brain.astype(np.float32), np.zeros(SHAPE, np.int32)
    for label, box in enumerate(boxes, 1):
        labels[box], scan[box] = label, 3.0
    provenance: dict[str, Any] = {
        "input": {"path": f"{name}.nii.gz", "sha256": name},
        "gate": {"light": "amber" if gate else "green", "reasons": [{"what": what} for what in gate]},
        "options": {"model": {"name": "implant"}, "point": {"name": "default", "threshold": 0.5}},
    }
    return Exam(name, Scan(scan, AFFINE), Mask(brain, AFFINE), Volume(labels, AFFINE), provenance)


def follow_up(before: Exam, after: Exam, shift_mm: float = 0.0) -> FollowUp:
    to_after = np.eye(4)
    to_after[2, 3] = shift_mm
    first, second = (Marked(one.components, one.brain) for one in (before, after))
    found = changes(first, second, to_after, LIMITS)
    return FollowUp(before, after, to_after, Agreement(0.9, 0.95, (1.0, 0.8)), found, LIMITS, ["a <b>note</b>"])


def box(x: int, size: int = 3, z: int = 10) -> tuple[slice, slice, slice]:
    return slice(x, x + size), slice(20, 20 + size), slice(z, z + size)


@pytest.fixture
def usual() -> FollowUp:
    return follow_up(exam("a", box(8), box(16)), exam("b", box(8, 5), box(26, 2)))


def test_the_page_has_a_row_and_four_pictures_per_change(usual: FollowUp) -> None:
    page = change_html(usual)
    assert page == change_html(usual)
    assert page.count('<article class="row">') == 3
    assert page.count("<img") == 12
    for words in ("1 · new", "2 · gone", "3 · grown", "30% in one only", "±0.80 ml", "python measure.py &lt;out&gt;"):
        assert words in page
    assert "a &lt;b&gt;note&lt;/b&gt;" in page
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page


def test_no_name_injects_a_script() -> None:
    name = '"><script>alert(1)</script>\n\u202e'
    page = change_html(follow_up(exam(name, box(8)), exam("b")))
    assert "<script>" not in page
    assert "\u202e" not in page


def test_only_the_finding_of_a_change_is_in_its_colour(usual: FollowUp) -> None:
    """In the scan that lacks it, no outline of that colour; both labels are 2 and mean different findings."""
    page = change_html(usual)
    new_before = page.split('alt="before, new 1" src="')[1].split('"')[0]
    new_after = page.split('alt="after, new 1" src="')[1].split('"')[0]
    assert (has_red(new_before), has_red(new_after)) == (False, True)


def has_red(src: str) -> bool:
    import base64

    from PIL import Image

    picture = Image.open(io.BytesIO(base64.b64decode(src.split(",")[1]))).convert("RGB")
    return bool((np.asarray(picture) == (255, 64, 40)).all(axis=2).any())


def test_without_findings_and_with_many() -> None:
    nothing = follow_up(exam("a"), exam("b"))
    assert "Neither scan has findings." in change_html(nothing)
    assert as_text(nothing) == "no findings; 0.00 ml before, 0.00 after"
    assert as_tsv(nothing).count("\n") == 1
    many = [box(x, 1, z) for x in range(6, 34, 4) for z in range(4, 26, 4)]
    page = change_html(follow_up(exam("a", *many), exam("b", *many)))
    assert f"Pictures of the first {SHOWN} of {len(many)} changes" in page
    assert page.count("<img") == 4 * SHOWN
    many = [box(x, 1, z) for x in range(5, 36, 2) for z in range(3, 27, 2) for _ in range(3)]
    more = [(x, slice(10 + 4 * (n % 3), 11 + 4 * (n % 3)), z) for n, (x, _, z) in enumerate(many)]
    page = change_html(follow_up(exam("a", *more), exam("b")))
    assert page.count("<tr><td>") == LISTED + 1  # and the size in the table of repeatability
    assert f"{len(more) - LISTED} more are in compare.tsv only." in page


def test_a_fine_grid_is_counted_in_whole_voxels() -> None:
    fine = exam("a")
    wide = Volume(np.zeros((1024, 1200, 6), np.int32), np.diag([0.2, 0.2, 4.0, 1.0]))
    brain, scan = Mask(wide.voxels == 0, wide.affine), Scan(wide.voxels.astype(np.float32), wide.affine)
    page = change_html(follow_up(replace(fine, scan=scan, brain=brain, components=wide), exam("b")))
    assert "0.2 x 0.2 x 4 mm, 1024 x 1200 x 6 voxels" in page


def test_one_name_of_both_scans_stands_once_and_no_change_has_no_minus() -> None:
    large = (slice(8, 20), slice(12, 36), slice(6, 24))
    found = follow_up(exam("P-77", large), exam("P-77", large))
    change = replace(found.changes[0], after_ml=0.999 * found.changes[0].before_ml)
    less = replace(found, changes=[change])
    page = change_html(less)
    assert "<h1>P-77</h1>" in page
    assert "(+0 %)" in page
    assert "+0" in as_text(less).splitlines()[1].split()


def test_places_name_the_lobe_where_the_gate_had_aligned_the_average_brain(usual: FollowUp) -> None:
    everywhere = [[0, 0, 0, -35], [0, 0, 0, 58], [0, 0, 0, 12], [0, 0, 0, 1]]  # of which every point is left frontal
    for average, lobe in ((everywhere, "left frontal"), ([[1]], ""), ("x", ""), ([["nan"] * 4] * 4, "")):
        gate = {**usual.after.provenance["gate"], "average": average}
        after = replace(usual.after, provenance={**usual.after.provenance, "gate": gate})
        for words, change in zip(replace(usual, after=after).places, usual.changes, strict=True):
            assert words.startswith("left frontal ·") == (lobe != "" and bool(change.after)), (average, words)


def test_without_a_brain_there_are_no_places(usual: FollowUp) -> None:
    nowhere = replace(usual.after, brain=Mask(np.zeros(SHAPE, bool), AFFINE))
    places = replace(usual, after=nowhere).places
    assert [bool(words) for words in places] == [not change.after for change in usual.changes]
    assert all(usual.places)


def test_what_lies_outside_the_other_field_has_no_picture_there() -> None:
    page = change_html(follow_up(exam("a", box(8)), exam("b"), shift_mm=400))
    assert "1 · not covered" in page
    assert page.count("<img") == 2
    assert page.count("outside the field of view</div>") == 2
    assert "100% of it in the first scan is outside the field of view or brain mask of the second" in page


def test_table_and_json_say_the_same(usual: FollowUp) -> None:
    rows = list(csv.DictReader(io.StringIO(as_tsv(usual)), delimiter="\t"))
    record = json.loads(json.dumps(as_json(usual, {"versions": {}}), allow_nan=False))
    assert (
        [row["change"] for row in rows] == [change["kind"] for change in record["changes"]] == ["new", "gone", "grown"]
    )
    for row, change in zip(rows, record["changes"], strict=True):
        assert float(row["change_ml"]) == pytest.approx(change["change_ml"], abs=1e-4)
        assert [float(row[f"{axis}_after_mm"]) for axis in "xyz"] == change["after_mm"]
        assert row["place"] == change["place"] != ""
    assert rows[0]["change_percent"] == rows[0]["limit_ml"] == rows[0]["before"] == ""
    assert record["changes"][0]["percent"] is None
    assert (rows[2]["before"], rows[2]["after"], float(rows[2]["limit_ml"])) == ("1", "1", 0.8)
    assert record["before"]["volume_ml"] == pytest.approx(2 * 27 * 0.064)


def test_the_text_has_a_line_per_change_and_the_total(usual: FollowUp) -> None:
    lines = as_text(usual).splitlines()
    assert len(lines) == 5
    assert lines[1].split()[:7] == ["1", "new", "-", "2", "0.00", "0.51", "+0.51"]
    assert lines[-1] == "1 new, 1 gone, 1 grown; 3.46 ml before, 8.51 after"


def test_an_exam_in_amber_says_so() -> None:
    page = change_html(replace(follow_up(exam("a", gate=("noise",)), exam("b")), notes=[]))
    assert "gate amber" in page
    assert '<ul class="warnings">' not in page
