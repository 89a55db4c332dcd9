from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np

from uadtk.kernels._box import box_above, fill, occupied, zeros


def test_the_box_holds_all_that_is_not_0() -> None:
    score, mask = np.zeros((5, 6, 7), np.float32), np.zeros((5, 6, 7), bool)
    score[1, 2, 3] = -1
    assert occupied(score) == (slice(1, 2), slice(2, 3), slice(3, 4))
    mask[2:4, 0, 5] = True
    assert occupied(score, mask) == (slice(1, 4), slice(0, 3), slice(3, 6))
    assert box_above(mask, 0) == occupied(mask)
    assert box_above(-score, 0.5) == occupied(score)


def test_of_nothing_it_is_the_whole() -> None:
    for shape in ((2, 3, 4), (0, 3, 4)):
        whole = tuple(slice(0, n) for n in shape)
        assert occupied(np.zeros(shape, bool)) == box_above(np.zeros(shape), 0) == whole


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def test_rows_of_zeros_take_no_memory() -> None:
    values, found, before = np.zeros((1024, 1024), np.float32), zeros((64, 1024, 1024), np.float32), resident()
    values[8:16, 3] = -1
    for plane in found:
        fill(plane, values)
    assert resident() - before < found.nbytes / 16
    assert all(np.array_equal(plane, values) for plane in found)


def test_large_zeros_take_the_memory_of_what_is_written() -> None:
    before = resident()
    found = zeros((64, 1024, 1024), np.float32)
    found[1, :8] = 1
    assert not found[2:4].any()
    assert found.flags.writeable
    assert resident() - before < found.nbytes / 4
    assert zeros((2, 3), np.int32).tolist() == [[0, 0, 0], [0, 0, 0]]
