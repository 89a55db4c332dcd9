from __future__ import annotations

import numpy as np
import pytest

from uadtk.kernels._numba.shades import counted, shaded


def test_shades_are_clipped_and_rounded() -> None:
    values = np.random.default_rng(0).normal(100, 60, (3, 20, 21)).astype(np.float32)[:, :, ::2]
    low, high = 20.0, 190.0
    wanted = np.clip((values - np.float32(low)) * np.float32(255.49 / (high - low)), 0, 255.49) + np.float32(0.5)
    np.testing.assert_array_equal(shaded(values, low, high), wanted.astype(np.uint8))
    assert {0, 255} <= set(np.unique(shaded(values, low, high)).tolist())


@pytest.mark.parametrize("size", [0, 3, 1001])
def test_every_voxel_is_counted(size: int) -> None:
    voxels = np.random.default_rng(0).integers(0, 256, (1, 1, size), dtype=np.uint8)
    np.testing.assert_array_equal(counted(voxels), np.bincount(voxels.ravel(), minlength=256))
