"""A wide Gaussian over a small volume, as one matrix product per axis: several times as fast as a line filter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

REACH = 4.0  # standard deviations to where the Gaussian is cut, as in SciPy


def gaussian(volume: NDArray[np.float32], sigma: Sequence[float]) -> NDArray[np.float32]:
    """``scipy.ndimage.gaussian_filter(volume, sigma, mode="constant")`` in float32, of a volume (z, y, x)."""
    along_z, along_y, along_x = (_weights(*pair) for pair in zip(sigma, volume.shape, strict=True))
    filled = np.bitwise_or.reduce(volume.view(np.int32)) != 0
    y, x = _extent(filled.any(axis=1)), _extent(filled.any(axis=0))  # zeros around them add nothing
    box = np.ascontiguousarray(volume[:, y, x])
    smooth = (along_z @ box.reshape(len(box), -1)).reshape(box.shape)
    found: NDArray[np.float32] = along_y[:, y] @ smooth @ along_x[x]
    return found


def _extent(line: NDArray[np.bool_]) -> slice:
    """From the first True to the last."""
    return slice(int(line.argmax()), len(line) - int(line[::-1].argmax()))


def _weights(sigma: float, size: int) -> NDArray[np.float32]:
    """(size, size), symmetric."""
    reach = int(REACH * sigma + 0.5)
    line = np.exp(-0.5 * (np.arange(reach + 1) / sigma) ** 2)
    line /= 2 * line.sum() - line[0]
    apart = np.abs(np.arange(1 - size, size))
    wide = np.where(apart <= reach, line[np.minimum(apart, reach)], 0.0).astype(np.float32)
    return np.ascontiguousarray(sliding_window_view(wide, size)[::-1])
