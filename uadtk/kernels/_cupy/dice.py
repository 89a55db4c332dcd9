"""Counts of voxels per threshold level on the device; the counters are copied to the host after each volume."""

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


def positives(values, truth):
    cupy = namespace()
    return cupy.asnumpy(values.ravel()[truth.ravel() != 0])


def count(values, truth, levels, counts):
    cupy = namespace()
    if not values.size:
        return True
    found = cupy.zeros(counts.shape, np.uint64)
    wrong = cupy.zeros(1, np.int32)
    table = (cupy.asarray(levels.thresholds), cupy.asarray(levels.first), np.int32(levels.first.size))
    rule = (levels.low, levels.scale, np.int32(levels.steps), np.int32(levels.of_zero))
    blocks = min(-(-values.size // (_BLOCK * _PER_THREAD)), _MOST_BLOCKS)
    args = (values.ravel(), truth.ravel(), np.int64(values.size), *table, *rule, found, wrong)
    kernel("dice", "count")((blocks,), (_BLOCK,), args)
    counts += cupy.asnumpy(found).astype(np.int64)
    return not int(wrong[0])
