"""Prepared slices: which ones, kept in files, found again."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from uadtk.core.errors import DataError, StorageError
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.io.cohort import Cohort, Row, read_cohort
from uadtk.io.memo import digest_of
from uadtk.training import slices as module
from uadtk.training.slices import Slices, load_slices, slices_key


@pytest.fixture(scope="module")
def cohort(small_cohort: Path) -> Cohort:
    return read_cohort(small_cohort)


def load(rows: object, cache: Path, masked: bool = False, said: list[str] | None = None) -> Slices:
    run = Run(say=said.append) if said is not None else Run()
    return load_slices(list(rows), Preparation(), masked, run, "test", cache)  # type: ignore[call-overload]


def whole(slices: Slices):
    return slices.batch(np.arange(len(slices)), "cpu")


def test_lesion_slices_are_left_out_or_masked(cohort: Cohort, tmp_path: Path) -> None:
    patient = [row for row in cohort if row.lesion_mask]
    free, masked = (whole(load(patient, tmp_path, masked=masked)) for masked in (False, True))
    assert free.normal.all()
    assert len(free.image) < len(masked.image)
    assert 0 < (~masked.normal).float().mean() < 0.1
    bright = masked.image > 1.3
    assert bright.any()
    assert not masked.normal[bright].any()
    assert not masked.image[~masked.brain].any()


def test_rows_come_in_the_order_asked_for(cohort: Cohort, tmp_path: Path) -> None:
    slices = load(cohort, tmp_path)
    rows = np.random.default_rng(0).permutation(len(slices))[:9]
    batch = slices.batch(rows, "cpu")
    np.testing.assert_array_equal(batch.image[:, 0], slices.image[rows])
    np.testing.assert_array_equal(batch.brain[:, 0], slices.masks[rows] & module.BRAIN > 0)
    np.testing.assert_array_equal(batch.normal[:, 0], slices.masks[rows] & module.NORMAL > 0)


def patient(cohort: Cohort) -> Row:
    (row,) = [row for row in cohort if row.lesion_mask]
    return row


def test_labels_are_where_the_masks_are(cohort: Cohort, tmp_path: Path) -> None:
    """Known everywhere in a labelled scan but where it is to be ignored; elsewhere there are hints or nothing."""
    row = patient(cohort)
    rows = [row, replace(row, ignore_mask=row.lesion_mask), replace(row, lesion_mask=None, prior_mask=row.lesion_mask)]
    sure, ignored, hinted, blank = (
        whole(load([one], tmp_path, masked=True)) for one in [*rows, replace(row, lesion_mask=None)]
    )
    bright = sure.image > 1.3
    assert bright.any()
    assert (sure.lesion & bright).sum() > 0.9 * sure.lesion.sum()
    assert (sure.image > 1.15)[sure.lesion].float().mean() > 0.98  # no wider than the lesion
    assert not sure.lesion[sure.normal].any()
    assert sure.known.all()
    assert not ignored.known[sure.lesion].any()
    assert not ignored.known[bright].any()  # any part of a pixel
    assert torch.equal(hinted.hint, sure.lesion)
    assert hinted.hinted.all()
    for one in (sure, ignored, blank):
        assert not (one.hint | one.hinted).any()
    for one in (hinted, blank):
        assert not (one.lesion | one.known).any()


def test_it_is_kept_whose_labels_a_slice_has(cohort: Cohort, tmp_path: Path) -> None:
    row = patient(cohort)
    rows = [replace(row, label_source="teacher"), replace(row, lesion_mask=None), row]
    slices = load(rows, tmp_path, masked=True)
    scan, source, lesion = slices.about.T
    n = len(slices) // 3
    np.testing.assert_array_equal(scan, np.repeat([0, 1, 2], n))
    np.testing.assert_array_equal(source, np.repeat([module.PSEUDO, module.UNLABELLED, module.ANNOTATED], n))
    np.testing.assert_array_equal(lesion, whole(slices).lesion.sum(dim=(1, 2, 3)))


def test_neighbours_are_of_the_same_scan_and_the_last_is_repeated(cohort: Cohort, tmp_path: Path) -> None:
    slices = replace(load(cohort, tmp_path, masked=True), neighbours=2)
    scan = slices.about[:, 0]
    first, last = np.flatnonzero(scan == 1)[[0, -1]]
    batch = slices.batch(np.array([last, first, first + 5]), "cpu")
    expected = [[last - 2, last - 1, last, last, last], [first, first, first, first + 1, first + 2]]
    expected.append([*range(first + 3, first + 8)])
    np.testing.assert_array_equal(batch.image, slices.image[np.array(expected)])
    np.testing.assert_array_equal(batch.brain[:, 0], batch.image[:, 2] > 0)


def test_a_mask_on_another_grid_is_one_line(cohort: Cohort, tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((3, 4, 5), np.uint8), np.eye(4)), tmp_path / "other.nii.gz")
    row = patient(cohort)
    said: list[str] = []
    for column, labels in (("ignore_mask", row.lesion_mask), ("prior_mask", None)):
        other: Any = {column: tmp_path / "other.nii.gz"}
        wrong = replace(row, lesion_mask=labels, **other)
        load([row, wrong], tmp_path / "cache", masked=True, said=said)
    failed = [line for line in said if "failed" in line]
    assert len(failed) == 2
    assert all("other.nii.gz: the mask's grid" in line for line in failed)


def test_they_are_prepared_once(cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(cohort, tmp_path)
    monkeypatch.setattr(module, "prepare_admitted", lambda *_: pytest.fail("prepared again"))
    again = load(cohort, tmp_path)
    np.testing.assert_array_equal(first.image, again.image)
    assert again.scans == first.scans == len(cohort)
    assert isinstance(again.image, np.memmap)


def test_other_slices_have_another_key(cohort: Cohort) -> None:
    rows, recipe = list(cohort), Preparation()
    keys = {
        digest_of(slices_key(*inputs))
        for inputs in (
            (rows, recipe, False),
            (rows, recipe, True),
            (rows[1:], recipe, False),
            (rows, replace(recipe, denoise=True), False),
            ([replace(rows[0], lesion_free_slices=(1,)), *rows[1:]], recipe, False),
            (rows[::-1], recipe, False),
        )
    }
    assert len(keys) == 6


@pytest.mark.parametrize("damage", ["cut", "gone", "no facts"])
def test_what_is_not_whole_is_made_again(cohort: Cohort, tmp_path: Path, damage: str) -> None:
    expected = np.array(load(cohort, tmp_path).image)
    (folder,) = tmp_path.iterdir()
    if damage == "cut":
        (folder / "image.f32").write_bytes(b"123")
    else:
        (folder / ("masks.u8" if damage == "gone" else "slices.json")).unlink()
    np.testing.assert_array_equal(load(cohort, tmp_path).image, expected)


def test_scans_that_cannot_be_used_are_said_each_time(cohort: Cohort, tmp_path: Path) -> None:
    rows = [replace(cohort.rows[0], image=tmp_path / "absent.nii.gz"), *cohort.rows[1:]]
    for _ in range(2):
        said: list[str] = []
        assert load(rows, tmp_path / "cache", said=said).scans == len(rows) - 1
        assert [line for line in said if "failed" in line and "absent.nii.gz" in line]


def test_nothing_is_left_of_slices_that_could_not_be_made(cohort: Cohort, tmp_path: Path) -> None:
    rows = [replace(row, image=tmp_path / "absent.nii.gz") for row in cohort]
    with pytest.raises(DataError, match="no slice to use for test"):
        load(rows, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_full_disk_is_one_line(cohort: Cohort, tmp_path: Path) -> None:
    """No file may grow beyond 1 MB: to a process that is what a full disk looks like."""
    resource = pytest.importorskip("resource", reason="needs limits on the size of files")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(StorageError, match=r"cache: prepared slices cannot be stored there \(File too large\)"):
            load(cohort, tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_cohort(cohort: Cohort, tmp_path: Path) -> None:
    """Four times the scans, and the peak stays where it was; a batch costs what a batch holds."""
    peaks = []
    for times in (1, 4):
        rows = [replace(row, subject=f"{row.subject}-{k}") for k in range(times) for row in cohort]
        tracemalloc.start()
        slices = load(rows, tmp_path / str(times))
        slices.batch(np.arange(0, len(slices), len(slices) // 8)[:8], "cpu")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
    assert slices.image.nbytes > peaks[1] / 4


def test_facts_are_written_last(cohort: Cohort, tmp_path: Path) -> None:
    slices = load(cohort, tmp_path)
    (facts,) = tmp_path.rglob("slices.json")
    assert json.loads(facts.read_text())["slices"] == len(slices)
