from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from uadtk.kernels._gaussian import gaussian, gaussian_of_ones


@pytest.mark.parametrize("sigma", [(0.1, 0.3, 0.6), (2.0, 6.2, 6.2), (40.0, 1.0, 9.0)])
@pytest.mark.parametrize("shape", [(5, 40, 33), (1, 1, 70)])
def test_is_that_of_scipy(sigma: tuple[float, float, float], shape: tuple[int, int, int]) -> None:
    volume = np.random.default_rng(0).random(shape, dtype=np.float32)
    found = gaussian(volume, sigma)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, gaussian_filter(volume, sigma, mode="constant"), rtol=2e-6)


def test_reads_any_memory_layout() -> None:
    volume = np.random.default_rng(0).random((9, 8, 7), dtype=np.float32)
    sigma = (1.0, 2.0, 3.0)
    np.testing.assert_allclose(gaussian(volume.T, sigma), gaussian_filter(volume.T, sigma, mode="constant"), rtol=2e-6)


def test_zeros_beyond_the_reach_stay_exactly_zero() -> None:
    volume = np.zeros((1, 1, 30), np.float32)
    volume[0, 0, 0] = 1
    assert (np.flatnonzero(gaussian(volume, (1.0, 1.0, 2.0))) == np.arange(9)).all()


def test_the_part_of_a_volume_of_ones() -> None:
    shape, sigma, box = (5, 40, 33), (2.0, 6.2, 3.1), np.s_[1:5, 3:20, 30:33]
    whole = gaussian_filter(np.ones(shape, np.float32), sigma, mode="constant")
    np.testing.assert_allclose(gaussian_of_ones(shape, sigma, box), whole[box], rtol=2e-6)
