"""Exact 3-D median on the device: the sorted lists of the CPU version in registers, one thread per two rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from uadtk.kernels._cupy.source import kernel

_BLOCK = (32, 4)
_MOST_BLOCKS = 65535  # along z; the kernel loops over the rest


def median3d(volume: Any, size: tuple[int, int, int], mask: Any, threads: int) -> Any:
    import cupy

    volume = cupy.ascontiguousarray(volume, dtype=cupy.float32)
    if mask is not None:
        mask = cupy.asarray(mask, dtype=cupy.bool_)
        volume = cupy.where(mask, volume, cupy.float32(0))
    if bool(cupy.isnan(volume).any()):
        raise ValueError("volume holds NaN" + ("" if mask is None else " inside the mask") + ", which has no median")
    out = cupy.empty_like(volume)
    if volume.size == 0:
        return out
    depth, height, width = volume.shape
    grid = (-(-width // _BLOCK[0]), -(-height // (2 * _BLOCK[1])), min(depth, _MOST_BLOCKS))
    options = (f"-D{axis}={width_}" for axis, width_ in zip(("KZ", "KY", "KX"), size, strict=True))
    args = (volume, out, np.int32(depth), np.int32(height), np.int32(width))
    kernel("median", "median", *options)(grid, _BLOCK, args)
    return out if mask is None else cupy.where(mask, out, cupy.float32(0))


def blended_median3d(
    volume: Any, windows: Sequence[tuple[float, tuple[int, int, int]]], mask: Any, threads: int
) -> Any:
    import cupy

    total = cupy.zeros(volume.shape, cupy.float32)
    for weight, size in windows:
        total += np.float32(weight) * median3d(volume, size, mask, threads)
    return total
