"""Scans and masks that are already in memory: nibabel images, arrays with an affine, and what cannot be one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from uadtk.core.errors import DataError, UsageError
from uadtk.core.volume import Mask, Scan, Volume
from uadtk.io.read import as_mask, as_scan, read_mask, read_scan

SHAPE = (5, 6, 4)
AFFINE = np.array([[-2.0, 0, 0, 10], [0, 3.0, 0, -9], [0, 0, 4.0, 5], [0, 0, 0, 1]])
VOXELS = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 200


def same(one: Volume, other: Volume) -> None:
    assert type(one) is type(other)
    assert one.voxels.dtype == other.voxels.dtype
    np.testing.assert_array_equal(one.voxels, other.voxels)
    np.testing.assert_array_equal(one.affine, other.affine)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    nib.save(nib.Nifti1Image(VOXELS.astype(np.int16), AFFINE), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def test_a_scan_is_the_same_however_it_is_given(saved: Path) -> None:
    expected = read_scan(saved)
    image = nib.load(saved)
    for source in (saved, str(saved), expected, image, nib.Nifti1Image(VOXELS.astype(np.int16), AFFINE)):
        same(as_scan(source), expected)
    same(as_scan(VOXELS, AFFINE), expected)
    same(as_scan(VOXELS.tolist(), AFFINE.tolist()), expected)


def test_a_scan_is_taken_as_it_is(saved: Path) -> None:
    scan = read_scan(saved)
    assert as_scan(scan) is scan


def test_an_image_brings_its_own_affine(saved: Path) -> None:
    np.testing.assert_array_equal(as_scan(nib.load(saved), np.eye(4)).affine, AFFINE)


def test_the_scaling_of_an_image_is_applied(tmp_path: Path) -> None:
    image = nib.Nifti1Image(VOXELS.astype(np.int16), AFFINE)
    image.header.set_slope_inter(0.5, 7)
    nib.save(image, tmp_path / "scaled.nii.gz")
    same(as_scan(nib.load(tmp_path / "scaled.nii.gz")), read_scan(tmp_path / "scaled.nii.gz"))


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", ">i4", "u8", "f2", "f4", ">f8"])
def test_any_number_per_voxel_becomes_float32(dtype: str) -> None:
    voxels = (VOXELS > 7).astype(dtype) if dtype == "?" else VOXELS.astype(dtype)
    scan = as_scan(voxels, AFFINE)
    assert isinstance(scan, Scan)
    assert scan.voxels.dtype == np.float32
    np.testing.assert_array_equal(scan.voxels, voxels.astype(np.float32))


def test_the_array_that_was_given_is_left_alone() -> None:
    voxels = VOXELS.astype(np.float32)
    as_scan(voxels, AFFINE).voxels[:] = 0
    np.testing.assert_array_equal(voxels, VOXELS)


@pytest.mark.parametrize("frames", [(1,), (1, 1)])
def test_trailing_axes_of_one_are_dropped(frames: tuple[int, ...]) -> None:
    same(as_scan(VOXELS.reshape(*SHAPE, *frames), AFFINE), as_scan(VOXELS, AFFINE))
    same(as_scan(nib.Nifti1Image(VOXELS.reshape(*SHAPE, *frames).astype("f4"), AFFINE)), as_scan(VOXELS, AFFINE))


@pytest.mark.parametrize(
    ("voxels", "words"),
    [
        (
            np.where(VOXELS == 7, np.nan, VOXELS),
            r"1 voxels are NaN, infinite or beyond float32, the first at \(0, 1, 3",
        ),
        (np.where(VOXELS == 7, np.inf, VOXELS), "1 voxels are NaN, infinite"),
        (np.where(VOXELS == 7, 1e300, VOXELS), "beyond float32"),
        (VOXELS.astype(complex), "complex128, not one number per voxel"),
        (VOXELS.astype("U3"), "not one number per voxel"),
        (np.zeros(SHAPE, [("r", "u1"), ("g", "u1"), ("b", "u1")]), "not one number per voxel"),
        (np.stack([VOXELS, VOXELS], axis=-1), "three axes"),
        (VOXELS[0], "three axes"),
        (VOXELS[:, :, :0], "three axes"),
        (np.full(SHAPE, 7.0), "contains no image: every voxel is 7"),
    ],
)
def test_what_is_no_scan_is_refused(voxels: np.ndarray[Any, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        as_scan(voxels, AFFINE)


def test_an_array_without_a_place_in_space_is_refused() -> None:
    with pytest.raises(UsageError, match=r"an array has no place in space\. Pass its affine \(4, 4\)"):
        as_scan(VOXELS)
    with pytest.raises(DataError, match=r"the affine has shape \(3, 3\)"):
        as_scan(VOXELS, np.eye(3))
    with pytest.raises(DataError, match="impossible for a brain scan"):
        as_scan(VOXELS, np.diag([0, 1, 1, 1]))


def test_a_mask_is_the_same_however_it_is_given(saved: Path, tmp_path: Path) -> None:
    scan, inside = read_scan(saved), VOXELS > 50
    nib.save(nib.Nifti1Image(inside.astype(np.uint8), AFFINE), tmp_path / "mask.nii.gz")
    expected = read_mask(tmp_path / "mask.nii.gz", scan)
    assert isinstance(expected, Mask)
    np.testing.assert_array_equal(expected.voxels, inside)
    path = tmp_path / "mask.nii.gz"
    for source in (path, str(path), nib.load(path), expected, inside, inside.astype(np.uint8), inside * 255.0):
        same(as_mask(source, scan), expected)
    same(as_mask(inside[..., None], scan), expected)


def test_a_mask_that_does_not_fit_is_refused(saved: Path) -> None:
    scan = read_scan(saved)
    with pytest.raises(DataError, match="is not the scan's"):
        as_mask(np.ones((5, 6, 3), bool), scan)
    with pytest.raises(DataError, match="mm off the scan"):
        as_mask(nib.Nifti1Image(np.ones(SHAPE, np.uint8), np.eye(4)), scan)
    with pytest.raises(DataError, match="the mask is empty"):
        as_mask(np.zeros(SHAPE, bool), scan)
    with pytest.raises(DataError, match="NaN"):
        as_mask(np.full(SHAPE, np.nan), scan)
