"""What ``median3d`` computes, by SciPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def median3d(
    volume: NDArray[np.float32],
    size: tuple[int, int, int],
    mask: NDArray[np.bool_] | None,
    threads: int = 1,
) -> NDArray[np.float32]:
    if mask is None:
        return np.asarray(ndimage.median_filter(volume, size, mode="reflect"))
    median = ndimage.median_filter(np.where(mask, volume, np.float32(0)), size, mode="reflect")
    return np.where(mask, median, np.float32(0))
