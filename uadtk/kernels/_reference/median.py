"""The definitions of ``median3d`` and ``blended_median3d``, by SciPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def median3d(
    volume: NDArray[np.generic],
    size: int | tuple[int, int, int] = 5,
    mask: NDArray[np.generic] | None = None,
    *,
    threads: int = 1,
) -> NDArray[np.float32]:
    volume = volume.astype(np.float32)
    inside = np.full(volume.shape, True) if mask is None else mask.astype(bool)
    median = ndimage.median_filter(np.where(inside, volume, np.float32(0)), size, mode="reflect")
    return np.where(inside, median, np.float32(0))


def blended_median3d(
    volume: NDArray[np.generic],
    windows: Sequence[tuple[float, int | tuple[int, int, int]]],
    mask: NDArray[np.generic] | None = None,
    *,
    threads: int = 1,
) -> NDArray[np.float32]:
    total = np.zeros(volume.shape, np.float32)
    for weight, size in windows:
        total += np.float32(weight) * median3d(volume, size, mask)
    return total
