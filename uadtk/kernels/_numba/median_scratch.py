"""Memory that the median filter works in, and how many voxels it computes at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int, int]
LANES = 16
ROWS = 8  # rings: rows of sorted lists (ky + 1 are in use) and pairs of them (ky // 2)
PAIRS = 4


class Scratch(NamedTuple):
    """Memory of one thread, allocated outside compiled code, where it would add half a second of compile time.

    ``planes`` is a ring of the input planes in use, masked and mirrored in x; plane z is in slot (z + reach) % slots,
    where ``reach`` is half of the deepest box. ``bases`` are the places of a box's planes in ``values``. ``first`` and
    ``last`` bound the non-zero values in each of their rows, ``left`` and ``right`` those an output row may have.
    ``pair`` buffers two planes of output, made column by column: written to the output directly, columns would miss
    the cache on every row. ``values`` and ``medians`` are flat views of ``planes`` and ``pair``.
    """

    planes: NDArray[np.uint32]
    values: NDArray[np.float32]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    made: NDArray[np.int64]
    bases: NDArray[np.int64]
    offsets: NDArray[np.int64]
    pair: NDArray[np.float32]
    medians: NDArray[np.float32]
    lists: NDArray[np.float32]
    pairs: NDArray[np.float32]


def scratch(shape: tuple[int, ...], boxes: Sequence[Box], step: int) -> Scratch:
    """For some boxes, and ``step`` planes of output at once if these are several."""
    _, height, width = shape
    deepest, pad = max(box[0] for box in boxes), max(box[2] for box in boxes) // 2
    slots = deepest + (1 if len(boxes) == 1 else step)
    length = max(box[0] * box[2] for box in boxes) * LANES
    planes = np.zeros((slots, height, width + 2 * pad + LANES), np.uint32)
    first, last = np.empty((2, slots, height), np.int64)
    left, right = np.empty((2, height), np.int64)
    made = np.empty(((width - 1) // LANES + 1, 2), np.int64)
    bases, offsets = np.empty((2, deepest + 1), np.int64)
    pair = np.empty((2, height + 1, width + LANES), np.float32)
    lists, pairs = aligned(2 * ROWS * length), aligned(2 * PAIRS * 2 * length)
    values = planes.view(np.float32).reshape(-1)
    return Scratch(planes, values, first, last, left, right, made, bases, offsets, pair, pair.reshape(-1), lists, pairs)


def aligned(size: int) -> NDArray[np.float32]:
    """Aligned to a cache line, so that no vector straddles two."""
    memory = np.empty(size + LANES, np.float32)
    start = -(memory.ctypes.data // 4) % LANES
    return memory[start : start + size]
