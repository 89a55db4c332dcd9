from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scans import CODES, turned
from uadtk.core.volume import Volume
from uadtk.preparation.geometry import Reorientation, SliceGrid, resampling_matrix


@pytest.mark.parametrize("codes", CODES)
def test_reorientation_is_exact_both_ways(codes: str) -> None:
    rng = np.random.default_rng(0)
    upright = Volume(rng.random((5, 6, 7), dtype=np.float32), np.diag([1.0, 2.0, 3.0, 1.0]))
    stored = turned(upright, codes)
    turn = Reorientation.of(stored.affine)
    there = turn.to_ras(stored)
    np.testing.assert_array_equal(there.voxels, upright.voxels)
    np.testing.assert_allclose(there.affine, upright.affine)
    np.testing.assert_array_equal(turn.to_own(there.voxels), stored.voxels)


def test_slices_look_at_the_patient_with_anterior_up_and_left_first() -> None:
    brain = np.zeros((40, 50, 10), dtype=bool)
    brain[5:35, 5:45, 2:8] = True
    image = np.zeros(brain.shape, dtype=np.float32)
    image[8, 40, 5] = 1.0  # RAS+: low x is left, high y is anterior
    grid = SliceGrid.around(brain, (4.0, 4.0, 5.0), 64, 3.25)
    slices = grid.to_slices(grid.cut(image))
    assert slices.shape == (6, 64, 64)
    z, row, column = np.unravel_index(slices.argmax(), slices.shape)
    assert grid.z.start + z == 5
    assert row < 32
    assert column < 32


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(8, 40), st.integers(8, 40), st.integers(1, 6)),
    spacing=st.tuples(*[st.floats(0.4, 6.0)] * 3),
    seed=st.integers(0, 100),
)
def test_the_way_back_has_the_own_shape_and_keeps_a_smooth_image(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], seed: int
) -> None:
    brain = np.random.default_rng(seed).random(shape) < 0.5
    brain[shape[0] // 2, shape[1] // 2, :] = True
    grid = SliceGrid.around(brain, spacing, 32, 6.5)
    back = grid.to_volume(grid.to_slices(grid.cut(np.ones(shape))))
    assert back.shape == shape
    assert np.isfinite(back).all()
    assert back.min() >= 0
    assert back.max() <= 1 + 1e-5


def test_the_way_there_and_back_is_close_for_a_smooth_image() -> None:
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, n) for n in (60, 70, 9)), indexing="ij")
    smooth = np.exp(-3 * (x**2 + y**2)).astype(np.float32)
    brain = x**2 + y**2 < 0.8
    grid = SliceGrid.around(brain, (3.0, 2.5, 5.0), 128, 1.625)
    assert np.abs(grid.to_volume(grid.to_slices(grid.cut(smooth))) - smooth)[x**2 + y**2 < 0.7].max() < 0.01


def test_resampling_keeps_a_constant_and_averages_when_it_shrinks() -> None:
    positions = (np.arange(10) + 0.5) * 4 - 0.5
    matrix = resampling_matrix(positions, 40)
    np.testing.assert_allclose((matrix @ np.ones(40))[1:-1], 1, atol=1e-6)
    alternating = np.tile([0.0, 1.0], 20)
    np.testing.assert_allclose((matrix @ alternating)[1:-1], 0.5, atol=1e-6)


def test_resampling_at_the_samples_is_the_identity() -> None:
    np.testing.assert_array_equal(resampling_matrix(np.arange(7.0), 7), np.eye(7, dtype=np.float32))
