"""Counts of voxels per threshold level; blocks of zeros are counted at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk.kernels._levels import Levels
from uadtk.kernels._numba._jit import compiled

_BLOCK = 16  # constant trip counts: LLVM turns the inner loops into vector code
_INFINITE = np.uint32(0x7F800000)
_MAGNITUDE = np.uint32(0x7FFFFFFF)
_SMALL = 1 << 14


def namespace() -> Any:
    return np


def positives(values: NDArray[np.float32], truth: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Scores of the positive voxels."""
    return values.reshape(-1)[np.flatnonzero(truth.view(bool))]  # ten times faster as bool than as uint8


def count(values: NDArray[np.float32], truth: NDArray[np.uint8], levels: Levels, counts: NDArray[np.int64]) -> bool:
    """Add to ``counts`` (levels, 2) the negatives and positives of each level; False if a score is not finite."""
    zero = levels.of_zero
    # Neighbours often share a level: with four counters each, an increment need not wait for the previous store.
    copies = 4 if counts.shape[0] <= _SMALL else 1
    own = np.zeros((copies, counts.size), np.int64)
    table = (levels.thresholds, levels.first, levels.low, levels.scale, levels.steps)
    flat, flat_truth = values.reshape(-1), truth.reshape(-1)
    blocks = flat.size // _BLOCK
    whole, rest = blocks * _BLOCK, flat.size % _BLOCK
    finite = _count(flat[:whole].reshape(blocks, _BLOCK), flat_truth[:whole].reshape(blocks, _BLOCK), *table, zero, own)
    last, last_truth = np.zeros((1, _BLOCK), np.float32), np.zeros((1, _BLOCK), np.uint8)
    last[0, :rest], last_truth[0, :rest] = flat[whole:], flat_truth[whole:]
    finite &= _count(last, last_truth, *table, zero, own)
    counts += own.sum(0).reshape(counts.shape)
    counts[zero, 0] -= _BLOCK - rest
    return bool(finite)


@compiled()
def _count(values, truth, thresholds, first, low, scale, steps, zero, counts):
    bits = values.view(np.uint32)
    last_bin = np.float32(first.size - 1)
    level = np.empty(_BLOCK, np.int32)
    copies = counts.shape[0] - 1
    counts0, counts1, counts2, counts3 = counts[0], counts[1 & copies], counts[2 & copies], counts[3 & copies]
    zeros, zero_positives = np.int64(0), np.int64(0)
    for b in range(values.shape[0]):
        seen = np.uint32(0)
        for j in range(_BLOCK):
            seen |= bits[b, j]
        if seen == 0:
            marked = np.uint32(0)
            for j in range(_BLOCK):
                marked += np.uint32(truth[b, j])
            zero_positives += marked
            zeros += _BLOCK
            continue
        wrong = np.uint32(0)
        for j in range(_BLOCK):
            wrong |= np.uint32((bits[b, j] & _MAGNITUDE) >= _INFINITE)
        if wrong != 0:  # NaN has no bin
            return False
        for j in range(_BLOCK):
            place = min(max((values[b, j] - low) * scale, np.float32(0)), last_bin)
            level[j] = first[np.uint32(np.int32(place))]
        for step in range(1, steps):
            half = np.int32(1) << np.int32(steps - step)
            for j in range(_BLOCK):
                above = values[b, j] > thresholds[np.uint32(level[j] + half - np.int32(1))]
                level[j] += np.int32(above) * half
        for j in range(_BLOCK):
            above = values[b, j] > thresholds[np.uint32(level[j])]
            level[j] = np.int32(2) * (level[j] + np.int32(above)) + np.int32(truth[b, j])
        for j in range(0, _BLOCK, 4):
            counts0[np.uint32(level[j])] += 1
            counts1[np.uint32(level[j + 1])] += 1
            counts2[np.uint32(level[j + 2])] += 1
            counts3[np.uint32(level[j + 3])] += 1
    counts0[2 * zero + 1] += zero_positives
    counts0[2 * zero] += zeros - zero_positives
    return True
