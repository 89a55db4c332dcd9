"""Aligning two scans of one head, and telling them from scans of two."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from tests.heads import FIRST, SECOND, SHAPE, WIDER, head
from tests.scans import SMALL_AFFINE
from uadtk.core.errors import DataError
from uadtk.core.volume import Mask, Scan
from uadtk.preparation.agreement import Agreement, Head, agreement

STILL = np.eye(4)


def of(image: nib.Nifti1Image, found: bool = False) -> Head:
    voxels = np.asarray(image.dataobj)
    return Head(
        Scan(voxels, image.affine), *(Mask(mask, image.affine) for mask in (voxels > 0, (voxels > 1300) & found))
    )


def agreed(before: Head, after: Head, to_after: np.ndarray = STILL) -> Agreement:
    return agreement(before, after, to_after)


def test_one_head_agrees_and_another_does_not() -> None:
    same = agreed(of(head(1, 1)), of(head(1, 2)))
    assert same.detail > 0.95
    assert same.overlap == 1.0
    assert same.covered == (1.0, 1.0)
    assert agreed(of(head(1, 1)), of(head(2, 2))).detail < 0.45
    assert agreed(of(head(1, 1)), of(head(1, 2, shift_mm=(9, 0, 0)))).detail < 0.5  # not aligned


def test_lesions_found_or_not_do_not_decide() -> None:
    for found in (True, False):
        changed = agreed(of(head(1, 1, FIRST), found), of(head(1, 2, WIDER, SECOND), found))
        assert changed.detail > (0.95 if found else 0.8)


def test_an_inverted_contrast_is_no_agreement() -> None:
    one, other = of(head(1, 1)), of(head(1, 2))
    inverted = Scan(np.where(other.brain.voxels, 1600 - other.scan.voxels, 0).astype(np.float32), other.scan.affine)
    assert agreed(one, Head(inverted, other.brain, other.findings)).detail < -0.9


def test_what_one_scan_covers_of_the_other() -> None:
    whole = of(head(1, 1))
    up = np.eye(4)
    up[2, 3] = 12
    affine = SMALL_AFFINE @ up
    image = np.asarray(head(1, 2).dataobj)[:, :, 12:]
    half = of(nib.Nifti1Image(image, affine))
    first = agreed(whole, half)
    assert first.covered == (pytest.approx(0.5, abs=0.02), pytest.approx(1.0, abs=0.02))
    assert first.overlap > 0.98
    assert first.detail > 0.95
    back = agreed(half, whole)
    assert back.covered == (pytest.approx(1.0, abs=0.02), pytest.approx(0.5, abs=0.02))


def test_nothing_in_common() -> None:
    apart = agreed(of(head(1, 1)), of(head(1, 2, shift_mm=(500, 0, 0))))
    assert (apart.detail, apart.overlap, apart.covered) == (0.0, 0.0, (0.0, 0.0))
    flat = of(head(1, 1))
    grey = Head(Scan(np.where(flat.brain.voxels, 5, 0).astype(np.float32), SMALL_AFFINE), flat.brain, flat.findings)
    assert agreed(flat, grey).detail == 0.0


def test_align_finds_a_turned_and_shifted_head_the_same_each_time() -> None:
    pytest.importorskip("SimpleITK", reason="the preprocess extra is not installed")
    from uadtk.preparation.registration import align

    before = of(head(1, 1))
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec(np.radians((4, -5, 6))).as_matrix()
    turn[:3, 3] = 20, -30, 15
    grid = np.diag([2.5, 2.5, 4.0, 1.0])
    grid[:3, 3] = turn[:3, 3] - (70, 85, 65)
    to_head = np.linalg.inv(SMALL_AFFINE) @ np.linalg.inv(turn) @ grid
    voxels, inside = (
        ndimage.affine_transform(v.astype(np.float32), to_head[:3, :3], to_head[:3, 3], (56, 68, 33), order=1)
        for v in (np.asarray(head(1, 2).dataobj), before.brain.voxels)
    )
    after = Head(Scan(voxels, grid), Mask(inside > 0.5, grid), Mask(np.zeros(voxels.shape, bool), grid))
    found = align(before.scan, before.brain, after.scan, after.brain)
    corners = np.argwhere(before.brain.voxels) @ SMALL_AFFINE[:3, :3].T + SMALL_AFFINE[:3, 3]
    off = corners @ (found - turn)[:3, :3].T + (found - turn)[:3, 3]
    assert np.linalg.norm(off, axis=1).max() < 1.0
    assert agreement(before, after, found).detail > 0.85
    assert np.array_equal(found, align(before.scan, before.brain, after.scan, after.brain))


def test_three_slices_cannot_be_aligned() -> None:
    pytest.importorskip("SimpleITK", reason="the preprocess extra is not installed")
    from uadtk.preparation.registration import align

    few = nib.Nifti1Image(np.asarray(head(1, 1).dataobj)[:, :, 10:13], SMALL_AFFINE)
    thin = of(few)
    with pytest.raises(DataError, match="cannot be registered") as refused:
        align(thin.scan, thin.brain, thin.scan, thin.brain)
    assert "0x" not in str(refused.value)


def test_the_head_is_as_large_as_it_says() -> None:
    assert of(head(1, 1)).scan.shape == SHAPE
