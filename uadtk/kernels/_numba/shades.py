"""Bytes from intensities, and how many there are of each: for images in pages."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from uadtk.kernels._numba._jit import compiled


def shaded(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.uint8]:
    """(z, y, x) from ``low``, 0, to ``high``, 255."""
    found = np.empty(values.shape, np.uint8)
    for plane, target in zip(values, found, strict=True):
        _shade(np.ascontiguousarray(plane, np.float32), np.float32(low), np.float32(255.49 / (high - low)), target)
    return found


def counted(voxels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How many voxels have each of the 256 values."""
    found: NDArray[np.int64] = _count(np.ascontiguousarray(voxels).reshape(-1))
    return found


@compiled()
def _shade(plane, low, scale, target):
    for y in range(plane.shape[0]):
        for x in range(plane.shape[1]):
            value = (plane[y, x] - low) * scale
            target[y, x] = np.uint8(min(max(value, np.float32(0)), np.float32(255.49)) + np.float32(0.5))


@compiled()
def _count(values):
    """In four tables, so that equal neighbours do not wait for each other."""
    tables = np.zeros((4, 256), np.int64)
    whole = values.size // 4 * 4
    for n in range(0, whole, 4):
        for table in range(4):
            tables[table, values[n + table]] += 1
    for n in range(whole, values.size):
        tables[0, values[n]] += 1
    return tables[0] + tables[1] + tables[2] + tables[3]
