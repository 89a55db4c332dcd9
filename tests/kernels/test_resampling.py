from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from uadtk.kernels._numba.resampling import resampled, resampled_volume
from uadtk.preparation.geometry import resampling_matrix


def matrix(size: int, step: float) -> NDArray[np.float32]:
    """The first rows lie outside: they are 0."""
    return resampling_matrix(-4 + step * np.arange(round((size + 8) / step)), size)


@pytest.mark.parametrize("steps", [(1.6, 0.4), (0.7, 3.0), (-1.0, 1.0)])
def test_is_the_product_with_dense_matrices(steps: tuple[float, float]) -> None:
    slices = np.random.default_rng(0).random((3, 21, 17), dtype=np.float32)
    rows = matrix(21, abs(steps[0]))[:: int(np.sign(steps[0]))]
    columns = matrix(17, steps[1])
    assert not rows[0].any()
    np.testing.assert_allclose(resampled(slices, rows, columns), rows @ slices @ columns.T, atol=1e-6)


def test_of_a_volume_in_any_order_of_memory() -> None:
    volume = np.random.default_rng(0).random((9, 8, 7), dtype=np.float32).T
    planes, rows, columns = matrix(7, 2.5), matrix(8, 1.3), matrix(9, 0.8)
    plain = rows @ volume @ columns.T
    np.testing.assert_allclose(resampled_volume(volume, None, rows, columns), plain, atol=1e-6)
    wanted = np.tensordot(planes, plain, axes=1)
    np.testing.assert_allclose(resampled_volume(volume, planes, rows, columns), wanted, atol=1e-6)
