"""Folders: which files are scans, whose a mask is, and that a mask that is there is never as good as none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.io.test_bids import SHAPE, dead, image, mask
from uadtk.core.errors import DataError
from uadtk.core.run import Run
from uadtk.io.cohort import Row, read_cohort, read_lesion, read_row
from uadtk.io.read import read_lesion_mask, read_scan


@pytest.mark.parametrize("scan", ["a.nii.gz", "a.NII.GZ", "a_flair.nii.gz", "a_T2-FLAIR.nii"])
@pytest.mark.parametrize(
    "name", ["a_label-lesion_mask", "a_lesion", "a_lesions", "a_lesion_mask", "a-lesionmask", "a_lesion_seg"]
)
def test_a_lesion_mask_beside_its_scan(tmp_path: Path, scan: str, name: str) -> None:
    nib.save(nib.load(image(tmp_path / "x.nii.gz")), tmp_path / "x.nii")
    (tmp_path / ("x.nii.gz" if scan.lower().endswith("gz") else "x.nii")).rename(tmp_path / scan)
    for left in tmp_path.glob("x*"):
        left.unlink()
    path = mask(tmp_path / f"{name}.nii.gz")
    image(tmp_path / "b.nii.gz")
    rows = read_cohort(tmp_path).rows
    assert [(row.image.name, row.lesion_mask) for row in rows] == [(scan, path), ("b.nii.gz", None)]
    assert read_cohort(tmp_path / scan).rows[0].lesion_mask == path


def test_masks_without_a_name_belong_to_the_only_scan_of_a_folder(tmp_path: Path) -> None:
    scan, lesion = image(tmp_path / "flair.nii.gz"), mask(tmp_path / "lesion.nii.gz")
    brain = mask(tmp_path / "brainmask.nii.gz")
    assert read_cohort(tmp_path).rows == (Row("flair", scan, brain, lesion),)
    other = image(tmp_path / "other.nii.gz")
    cohort = read_cohort(tmp_path)
    assert [row.image for row in cohort] == [scan, other]
    assert not any(row.lesion_mask or row.presumed_healthy for row in cohort)
    assert "lesion.nii.gz" in "".join(cohort.notes)


@pytest.mark.parametrize("name", ["a_mask", "a_seg", "a_label", "a_wmh_mask", "a_lesion_probseg"])
def test_what_may_be_lesions_makes_no_one_healthy(tmp_path: Path, name: str) -> None:
    image(tmp_path / "a.nii.gz")
    mask(tmp_path / f"{name}.nii.gz")
    cohort = read_cohort(tmp_path)
    assert [row.subject for row in cohort] == ["a"]
    assert not cohort.rows[0].presumed_healthy
    assert name in "".join(cohort.notes)


@pytest.mark.parametrize("how", ["dead", "shifted", "damaged"])
@pytest.mark.parametrize("kind", ["desc-brain", "label-lesion"])
def test_a_mask_beside_its_scan_that_cannot_be_used_fails_the_row(tmp_path: Path, how: str, kind: str) -> None:
    image(tmp_path / "a.nii.gz")
    path = tmp_path / f"a_{kind}_mask.nii.gz"
    if how == "dead":
        dead(path)
    else:
        mask(path, shift_mm=0.5)
    if how == "damaged":
        path.write_bytes(b"x" * 400)
    (row,) = read_cohort(tmp_path)
    with pytest.raises(DataError, match=path.name):
        read_lesion(row, read_row(row, Run())[0])


def test_a_mask_less_than_the_tolerance_off_is_taken(tmp_path: Path) -> None:
    image(tmp_path / "a.nii.gz")
    mask(tmp_path / "a_label-lesion_mask.nii.gz", shift_mm=0.005)
    (row,) = read_cohort(tmp_path)
    assert read_lesion(row, read_row(row, Run())[0]) is not None


def test_the_longest_name_of_a_scan_owns_the_mask(tmp_path: Path) -> None:
    for name in ("P1", "P1_2", "P10"):
        image(tmp_path / f"{name}.nii.gz")
    path = mask(tmp_path / "P1_2_lesion.nii.gz")
    assert [row.lesion_mask for row in read_cohort(tmp_path)] == [None, None, path]


OURS = ("label-lesion_mask", "label-lesion_dseg", "desc-anomaly_statmap", "desc-pseudohealthy_FLAIR", "desc-brain_mask")


@pytest.mark.parametrize("record", ["provenance", "labels"])
def test_what_we_wrote_is_neither_a_scan_nor_a_mask_of_people(tmp_path: Path, record: str) -> None:
    scan = image(tmp_path / "sub-1_FLAIR.nii.gz")
    for ending in OURS:
        mask(tmp_path / f"sub-1_{ending}.nii.gz")
    ours = {"versions": {"uadtk": "0.1"}} if record == "provenance" else {"teacher": {}, "trust": {}, "point": {}}
    (tmp_path / f"sub-1_{record}.json").write_text(json.dumps(ours))
    for source in (tmp_path, scan):
        cohort = read_cohort(source)
        assert cohort.rows == (Row("sub-1", scan),)
        assert not cohort.notes


def test_masks_among_our_outputs_that_nobody_vouches_for(tmp_path: Path) -> None:
    image(tmp_path / "a.nii.gz")
    path = mask(tmp_path / "a_label-lesion_mask.nii.gz")
    (tmp_path / "dataset_description.json").write_text(json.dumps({"GeneratedBy": [{"Name": "uadtk"}]}))
    cohort = read_cohort(tmp_path)
    assert cohort.rows[0].lesion_mask is None
    assert not cohort.rows[0].presumed_healthy
    assert str(path) in "".join(cohort.notes)


@pytest.mark.parametrize(
    ("values", "labels", "voxels"),
    [
        ([0, 1], None, 1),
        ([0, 255], None, 1),
        ([0, 3], None, 1),
        ([0, 0], None, 0),
        ([0, 0.99999], None, 1),
        ([0, 1 / 255], None, 1),
        ([0, 0.3], None, 1),
        ([0, 1, 2, 4], (1, 4), 2),
        ([0, 1, 2], (9,), 0),
    ],
)
def test_values_of_lesion_masks(tmp_path: Path, values: list[float], labels: Any, voxels: int) -> None:
    stored = np.zeros(SHAPE, dtype=np.float32)
    stored[0, 0, : len(values)] = values
    scan = read_scan(image(tmp_path / "a.nii.gz"))
    lesion = read_lesion_mask(image(tmp_path / "m.nii.gz", values=stored), scan, labels)
    assert lesion.voxels.sum() == voxels


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ([0, 1, 2], "holds the values 0, 1, 2, not 0 and one other.*lesion_labels"),
        ([-1, 0, 1], "holds the values -1, 0, 1"),
        ([-1, 0], "holds the values -1, 0"),
        ([0, 0.3, 0.9], "holds fractions, such as 0.3.*threshold"),
        ([0, 0.5, 1], "holds fractions, such as 0.5"),
    ],
)
def test_values_that_do_not_say_what_is_lesion(tmp_path: Path, values: list[float], what: str) -> None:
    stored = np.zeros(SHAPE, dtype=np.float32)
    stored[0, 0, : len(values)] = values
    scan = read_scan(image(tmp_path / "a.nii.gz"))
    with pytest.raises(DataError, match=what):
        read_lesion_mask(image(tmp_path / "m.nii.gz", values=stored), scan)


@pytest.mark.parametrize(
    ("values", "what"), [((1, 0), "100% of the field"), ((1, 1), "100% of the field"), ((2, 1), "1, 2")]
)
def test_a_mask_that_is_inverted_is_no_mask_of_lesions(tmp_path: Path, values: tuple[int, int], what: str) -> None:
    stored = np.full(SHAPE, values[0], dtype=np.float32)
    stored[0, 0, 0] = values[1]
    scan = read_scan(image(tmp_path / "a.nii.gz"))
    with pytest.raises(DataError, match=what):
        read_lesion_mask(image(tmp_path / "m.nii.gz", values=stored), scan)
