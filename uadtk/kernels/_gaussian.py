"""A wide Gaussian over a small volume, as one matrix product per axis: several times as fast as a line filter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

REACH = 4.0  # standard deviations to where the Gaussian is cut, as in SciPy


def gaussian(volume: NDArray[np.float32], sigma: Sequence[float]) -> NDArray[np.float32]:
    """``scipy.ndimage.gaussian_filter(volume, sigma, mode="constant")`` in float32, of a volume (z, y, x)."""
    along_z, along_y, along_x = (_weights(*pair) for pair in zip(sigma, volume.shape, strict=True))
    smooth = (along_z @ volume.reshape(len(volume), -1)).reshape(volume.shape)
    found: NDArray[np.float32] = along_y @ smooth @ along_x
    return found


def _weights(sigma: float, size: int) -> NDArray[np.float32]:
    """(size, size), symmetric."""
    reach = int(REACH * sigma + 0.5)
    line = np.exp(-0.5 * (np.arange(reach + 1) / sigma) ** 2)
    line /= 2 * line.sum() - line[0]
    apart = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    return np.where(apart <= reach, line[np.minimum(apart, reach)], 0.0).astype(np.float32)
