"""Counts of the two halves of float32 values on the device; the counters are copied to the host after each volume."""

from __future__ import annotations

from typing import Any

import numpy as np

from uadtk.kernels._cupy.source import kernel

_BLOCK = 256
_PER_THREAD = 16
_MOST_BLOCKS = 4096


def namespace() -> Any:
    import cupy

    return cupy


def upper_halves(values, mask, counts):
    counted = _launch("upper_halves", values, mask)
    counts[0] += counted[0]


def lower_halves(values, mask, first, second, counts):
    counts += _launch("lower_halves", values, mask, first, second)


def _launch(name: str, values: Any, mask: Any, *halves: np.uint32) -> Any:
    cupy = namespace()
    counts = cupy.zeros((2, 1 << 16), np.uint64)
    if values.size:
        blocks = min(-(-values.size // (_BLOCK * _PER_THREAD)), _MOST_BLOCKS)
        args = (values, mask, np.int64(values.size), *halves, counts)
        kernel("quantiles", name)((blocks,), (_BLOCK,), args)
    return cupy.asnumpy(counts).astype(np.int64)
