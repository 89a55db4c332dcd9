"""Counts of the two halves of float32 values; blocks without relevant values are skipped."""

from __future__ import annotations

from typing import Any

import numpy as np

from uadtk.kernels._numba._jit import compiled

_BLOCK = 64
_HALF = np.uint32(16)
_LOWER = np.uint32(0xFFFF)


def namespace() -> Any:
    return np


@compiled()
def upper_halves(values, mask, counts):
    """Add the counts of ``values >> 16`` to ``counts`` (2, 65536).

    Even and odd positions have separate counters, so a run of equal values does not wait for one counter; a block of
    zeros is a single addition, a block outside the mask none.
    """
    even, odd = counts[0], counts[1]
    for start in range(0, values.size, _BLOCK):
        block = values[start : start + _BLOCK]
        if mask is not None:
            keep = mask[start : start + _BLOCK]
            inside, outside = np.uint8(0), np.uint8(0)
            for j in range(block.size):
                inside |= keep[j]
                outside |= keep[j] ^ np.uint8(1)
            if inside == 0:
                continue
            if outside != 0:
                for j in range(block.size):
                    counts[j & 1, block[j] >> _HALF] += keep[j]
                continue
        seen = np.uint32(0)
        for j in range(block.size):
            seen |= block[j]
        if seen == 0:
            even[0] += block.size
            continue
        for j in range(0, block.size - 1, 2):
            even[block[j] >> _HALF] += 1
            odd[block[j + 1] >> _HALF] += 1
        if block.size % 2:
            even[block[block.size - 1] >> _HALF] += 1


@compiled()
def lower_halves(values, mask, first, second, counts):
    """Add the counts of ``values & 0xffff`` to ``counts[0]``, ``[1]`` where the upper half is ``first``, ``second``."""
    for start in range(0, values.size, _BLOCK):
        block = values[start : start + _BLOCK]
        hit = np.uint32(0)
        for j in range(block.size):
            half = block[j] >> _HALF
            hit |= np.uint32((half == first) | (half == second))
        if hit == 0:
            continue
        for j in range(block.size):
            half = block[j] >> _HALF
            if mask is not None and mask[start + j] == 0:
                continue
            if half == first:
                counts[0, block[j] & _LOWER] += 1
            if half == second:
                counts[1, block[j] & _LOWER] += 1
