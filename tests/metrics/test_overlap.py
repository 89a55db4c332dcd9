"""DICE, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from uadtk.metrics.overlap import dice


def volume(*boxes: tuple[slice, slice, slice]) -> np.ndarray:
    made = np.zeros((10, 10, 10), bool)
    for box in boxes:
        made[box] = True
    return made


A = np.s_[0:2, 0:2, 0:2]  # 8 voxels
B = np.s_[5:7, 5:7, 5:6]  # 4 voxels


@pytest.mark.parametrize(
    ("mask", "truth", "wanted"),
    [
        (volume(A), volume(A), 1.0),
        (volume(A), volume(B), 0.0),
        (volume(A, B), volume(B), 2 * 4 / (12 + 4)),
        (volume(np.s_[1:3, 0:2, 0:2]), volume(A), 2 * 4 / (8 + 8)),
        (volume(), volume(A), 0.0),
        (volume(A), volume(), 0.0),
        (volume(), volume(), 1.0),
    ],
)
def test_dice(mask: np.ndarray, truth: np.ndarray, wanted: float) -> None:
    assert dice(mask, truth) == wanted
    assert dice(truth, mask) == wanted
