"""Voxels treated as normal if lesions are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.scans import CODES, turned
from uadtk.core.errors import DataError
from uadtk.core.volume import Mask, Scan, Volume
from uadtk.io.cohort import Row
from uadtk.preparation.lesion_free import lesion_free, outside_lesion


@pytest.mark.parametrize("codes", [*CODES, "PIR", "ASL"])
def test_slices_near_a_lesion_are_axial_ones_however_the_scan_is_stored(codes: str) -> None:
    """A lesion in axial slice 4 of 9 excludes slices 3 to 5; sagittal scans are stored along another axis."""
    lesion = np.zeros((5, 6, 9), bool)
    lesion[2, 1, 4] = True
    normal = np.ones((5, 6, 9), bool)
    normal[:, :, 3:6] = False
    stored, expected = (turned(Volume(voxels, np.diag([1.0, 2.0, 3.0, 1.0])), codes) for voxels in (lesion, normal))
    scan = Scan(np.zeros(stored.shape, np.float32), stored.affine)
    found = lesion_free(Row("s", Path("s.nii.gz")), scan, Mask(stored.voxels, stored.affine))
    np.testing.assert_array_equal(found, expected.voxels)


@pytest.mark.parametrize("mm", [0.5, 1.0, 1.2, 1.5, 2.0, 3.0, 6.0])
def test_the_margin_does_not_hang_on_the_last_digit_of_a_spacing(mm: float) -> None:
    lesion = np.zeros((29, 29, 9), bool)
    lesion[14, 14, 4] = True

    def outside(by: float) -> np.ndarray:
        affine = np.diag([mm * by, mm * by, mm * by, 1])
        return outside_lesion(Scan(lesion.astype(np.float32), affine), Mask(lesion, affine))

    for by in (0.999, 0.99999, 1.00001, 1.001):
        np.testing.assert_array_equal(outside(by), outside(1.0))


def test_slices_that_the_scan_does_not_have_are_not_passed_over() -> None:
    """The list is that of another scan, or counts from 1."""
    scan = Scan(np.ones((4, 4, 9), np.float32), np.eye(4))
    row = Row("s", Path("s.nii.gz"), lesion_free_slices=(3, 8))
    assert np.flatnonzero(lesion_free(row, scan, None)[0, 0]).tolist() == [3, 8]
    with pytest.raises(
        DataError, match=r"s.nii.gz: lesion_free_slices names slice 9, but the scan has 9 \(counted from 0\)"
    ):
        lesion_free(replace(row, lesion_free_slices=(3, 9)), scan, None)


def test_outside_a_lesion_is_more_than_6_mm_away_and_everywhere_if_there_is_none() -> None:
    lesion = np.zeros((20, 5, 5), bool)
    lesion[0, 2, 2] = True
    scan = Scan(np.zeros((20, 5, 5), np.float32), np.diag([2.0, 2.0, 2.0, 1.0]))
    outside = outside_lesion(scan, Mask(lesion, scan.affine))
    assert outside[:, 2, 2].tolist() == [False] * 4 + [True] * 16
    for none in (None, Mask(np.zeros_like(lesion), scan.affine)):
        assert outside_lesion(scan, none).all()
