"""DICE and lesion counts, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from uadtk.metrics.overlap import LesionCount, count_lesions, dice


def volume(*boxes: tuple[slice, slice, slice]) -> np.ndarray:
    made = np.zeros((10, 10, 10), bool)
    for box in boxes:
        made[box] = True
    return made


A = np.s_[0:2, 0:2, 0:2]  # 8 voxels
B = np.s_[5:7, 5:7, 5:6]  # 4 voxels
C = np.s_[9:10, 0:2, 9:10]  # 2 voxels


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


def test_lesions_found_missed_and_made_up() -> None:
    touching = np.s_[1:5, 1:2, 1:2]  # shares one voxel with A
    assert count_lesions(volume(touching, C), volume(A, B)) == LesionCount(lesions=2, found=1, false=1)


def test_one_component_over_two_lesions_finds_both() -> None:
    assert count_lesions(volume(np.s_[0:10, 0:10, 0:10]), volume(A, B, C)) == LesionCount(3, 3, 0)


def test_two_components_in_one_lesion_find_it_once() -> None:
    parts = volume(np.s_[0:1, 0:1, 0:1], np.s_[0:1, 0:1, 4:5])
    assert count_lesions(parts, volume(np.s_[0:1, 0:1, 0:5])) == LesionCount(1, 1, 0)


def test_corners_connect() -> None:
    diagonal = volume(np.s_[0:1, 0:1, 0:1], np.s_[1:2, 1:2, 1:2])
    assert count_lesions(diagonal, diagonal) == LesionCount(1, 1, 0)


def test_nothing_anywhere() -> None:
    assert count_lesions(volume(), volume()) == LesionCount(0, 0, 0)
    assert count_lesions(volume(A, B), volume()) == LesionCount(0, 0, 2)
    assert count_lesions(volume(), volume(A, B)) == LesionCount(2, 0, 0)
