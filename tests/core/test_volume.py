"""Volumes: spacing follows from the affine, and impossible grids are rejected."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.affines import voxel_sizes
from scipy.spatial.transform import Rotation

from uadtk.core.errors import DataError
from uadtk.core.volume import Mask, Scan, ScoreMap, Volume


def volume(shape=(4, 5, 6), affine=None, kind=Volume):
    return kind(np.zeros(shape, np.float32), np.eye(4) if affine is None else affine)


spacings = st.tuples(*[st.floats(0.1, 20)] * 3)
angles = st.tuples(*[st.floats(-180, 180)] * 3)


@given(spacings, angles, st.sampled_from([-1, 1]))
def test_spacing_and_volume_of_any_affine(spacing, turn, flip):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix() @ np.diag(spacing) * flip
    affine[:3, 3] = 7, -8, 9
    oblique = volume(affine=affine)
    np.testing.assert_allclose(oblique.spacing_mm, voxel_sizes(affine))
    np.testing.assert_allclose(oblique.spacing_mm, spacing)
    np.testing.assert_allclose(oblique.voxel_ml, np.prod(spacing) / 1000)


def test_a_sheared_voxel_has_the_volume_of_its_parallelepiped():
    affine = np.eye(4)
    affine[0, 1] = 1.0
    assert volume(affine=affine).voxel_ml == pytest.approx(0.001)


def test_the_affine_is_a_copy_that_cannot_be_written():
    affine = np.eye(4, dtype=np.float32)
    made = volume(affine=affine)
    affine[0, 3] = 5
    assert made.affine[0, 3] == 0
    assert made.affine.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        made.affine[0, 3] = 1
    with pytest.raises(FrozenInstanceError):
        made.voxels = made.voxels


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 6, 1), (4, 0, 6), ()])
def test_three_axes_with_voxels_in_them(shape):
    with pytest.raises(DataError, match="three axes"):
        volume(shape)


def scaled(*spacing):
    return np.diag([*spacing, 1.0])


@pytest.mark.parametrize(
    "affine",
    [
        scaled(0, 1, 1),
        scaled(1, 1, 0.01),
        scaled(1, 1, 31),
        scaled(1, np.nan, 1),
        scaled(np.inf, 1, 1),
        np.eye(3),
        np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
    ],
)
def test_impossible_grids_are_refused(affine):
    with pytest.raises(DataError, match=r"affine|spacing") as caught:
        volume(affine=affine)
    assert caught.value.fix


@pytest.mark.parametrize("affine", [scaled(0.05, 1, 1), scaled(30, 1, 1), -scaled(0.47, 0.47, 8)])
def test_extreme_but_possible_grids_are_not(affine):
    affine[3, 3] = 1
    assert volume(affine=affine).shape == (4, 5, 6)


def test_same_grid_measures_at_the_corners_in_voxels():
    one = volume((100, 100, 10))
    moved, turned, cut = np.eye(4), np.eye(4), (100, 100, 9)
    moved[0, 3] = 0.09
    turned[0, 0] = 1.002  # 0.198 mm at the far side
    assert one.off_by_mm(volume((100, 100, 10), moved)) == pytest.approx(0.09)
    assert one.same_grid(volume((100, 100, 10), moved))
    assert one.off_by_mm(volume((100, 100, 10), turned)) == pytest.approx(0.198)
    assert not one.same_grid(volume((100, 100, 10), turned))
    turned[0, 0] = 1.0005
    assert one.same_grid(volume((100, 100, 10), turned))
    assert not one.same_grid(volume(cut))
    assert not one.same_grid(volume((100, 100, 10), scaled(-1, 1, 1)))


@pytest.mark.parametrize("kind", [Scan, ScoreMap, Mask])
def test_the_kinds_are_volumes(kind):
    assert volume(kind=kind).voxel_ml == pytest.approx(0.001)


def test_kernels_take_a_view_in_zyx_order_and_return_such_arrays():
    scan = Scan(np.asfortranarray(np.arange(120, dtype=np.float32).reshape(4, 5, 6)), np.diag([1.0, 2, 3, 1]))
    assert scan.zyx.shape == (6, 5, 4)
    assert scan.zyx.flags.c_contiguous
    assert np.shares_memory(scan.zyx, scan.voxels)
    back = Mask.from_zyx(scan.zyx > 60, scan.affine)
    assert isinstance(back, Mask)
    assert back.same_grid(scan)
    np.testing.assert_array_equal(back.voxels, scan.voxels > 60)


def test_a_volume_is_an_array_to_numpy():
    voxels = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    volume = Volume(voxels, np.eye(4))
    assert np.asarray(volume) is voxels
    assert np.asarray(volume, dtype=np.float64).dtype == np.float64
    copied = np.array(volume)
    copied[:] = 0
    np.testing.assert_array_equal(volume.voxels, np.arange(24).reshape(2, 3, 4))
    assert np.max(volume) == 23
