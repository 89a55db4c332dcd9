"""Connected components by cc3d, their sizes and statistics in one pass each."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from uadtk.kernels._box import occupied, zeros
from uadtk.kernels._numba._jit import compiled

_BLOCK = 16


def namespace() -> Any:
    return np


def label_components(mask: NDArray[np.generic], connectivity: int, min_size: int) -> tuple[NDArray[np.int32], int]:
    import cc3d

    whole = zeros(mask.shape, np.int32)
    box = occupied(np.asarray(mask, bool))
    inside = np.ascontiguousarray(mask[box], dtype=bool)  # findings are in a small part of most volumes
    if not inside.any():
        return whole, 0
    # Not binary_image=True: with it cc3d 4.1.1 fails on volumes that are one voxel thin.
    found, count = cc3d.connected_components(
        inside.view(np.uint8),
        connectivity=cast(Any, connectivity),
        return_N=True,
        out_dtype=np.uint32,
    )
    labels = np.ascontiguousarray(found).reshape(-1).view(np.int32)
    sizes, first = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
    _measure(labels, sizes, first)
    kept = np.flatnonzero(sizes[1:] >= min_size) + 1
    kept = kept[np.lexsort((first[kept], -sizes[kept]))]
    new = np.zeros(count + 1, np.int32)
    new[kept] = np.arange(1, kept.size + 1)
    _rename(labels, new)
    whole[box] = labels.reshape(inside.shape)
    return whole, kept.size


def label_stats(
    labels: NDArray[np.int32], score: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32], NDArray[np.float64]]:
    """Voxels, sums of (z, y, x), peak and sum of scores, per label from 1."""
    count = int(labels.max(initial=0))
    voxels, places = np.zeros(count + 1, np.int64), np.zeros((count + 1, 3), np.int64)
    peak, total = np.full(count + 1, -np.inf, np.float32), np.zeros(count + 1)
    _accumulate(labels, score, voxels, places, peak, total)
    return voxels[1:], places[1:], peak[1:], total[1:]


@compiled()
def _is_background(block):
    union = np.int32(0)
    for j in range(block.size):
        union |= block[j]
    return union == 0


@compiled()
def _measure(labels, sizes, first):
    for start in range(0, labels.size, _BLOCK):
        block = labels[start : start + _BLOCK]
        if _is_background(block):
            continue
        for j in range(block.size):
            label = block[j]
            if label != 0:
                if sizes[label] == 0:
                    first[label] = start + j
                sizes[label] += 1


@compiled()
def _rename(labels, new):
    for start in range(0, labels.size, _BLOCK):
        block = labels[start : start + _BLOCK]
        if _is_background(block):
            continue
        for j in range(block.size):
            block[j] = new[block[j]]


@compiled()
def _accumulate(labels, score, voxels, places, peak, total):
    depth, height, width = labels.shape
    for z in range(depth):
        for y in range(height):
            row = labels[z, y]
            for start in range(0, width, _BLOCK):
                block = row[start : start + _BLOCK]
                if _is_background(block):
                    continue
                for j in range(block.size):
                    label = block[j]
                    if label != 0:
                        value = score[z, y, start + j]
                        voxels[label] += 1
                        places[label, 0] += z
                        places[label, 1] += y
                        places[label, 2] += start + j
                        total[label] += value
                        if value > peak[label]:
                            peak[label] = value
