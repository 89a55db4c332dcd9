"""Residual sums on the device: one thread per voxel loops over all samples, with sums in registers."""

from __future__ import annotations

from typing import Any

import numpy as np

from uadtk.kernels._cupy.source import kernel

_BLOCK = 256


def namespace() -> Any:
    import cupy

    return cupy


def add(image, mask, batch, total, square, with_square, invalid, low):
    args = (image, mask, batch, total, square, np.int32(with_square), invalid, np.float64(low))
    _launch("add", image.size, *args, np.int64(len(batch)), np.int64(image.size))


def at_once(image, mask, batch, mean, variance, invalid, low):
    # Without a variance its array is empty and may have no address; pass any valid one.
    args = (
        image,
        mask,
        batch,
        mean,
        variance if variance.size else mean,
        np.int32(variance.size > 0),
        invalid,
        np.float64(low),
    )
    _launch("at_once", image.size, *args, np.int64(len(batch)), np.int64(image.size))


def finish(total, square, count_z, count_y, count_x, variance, out):
    sizes = (np.int64(n) for n in out.shape)
    _launch("finish", out.size, total, square, count_z, count_y, count_x, np.int32(variance), out, *sizes)


def _launch(name: str, voxels: int, *args: Any) -> None:
    if voxels:
        kernel("residual", name)((-(-voxels // _BLOCK),), (_BLOCK,), args)
