"""Lesions by size, counted by hand."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
from scipy import ndimage

from uadtk.metrics.lesions import f1, precision, recall, tally_lesions

SMALL, MIDDLE, LARGE = np.s_[0:1, 0:1, 0:1], np.s_[3:5, 0:5, 0:1], np.s_[0:10, 7:10, 5:10]  # 1, 10 and 150 voxels
LONG = np.s_[3:5, 4:8, 0:7]  # 56 voxels, from MIDDLE into LARGE


def volume(*boxes: tuple[slice, slice, slice]) -> np.ndarray:
    made = np.zeros((10, 10, 10), bool)
    for box in boxes:
        made[box] = True
    return made


def test_each_lesion_falls_into_the_class_of_its_volume() -> None:
    truth = volume(SMALL, MIDDLE, LARGE)
    np.testing.assert_array_equal(tally_lesions(truth, truth, 0.01), np.tile([1, 1, 1, 0], (4, 1)))
    np.testing.assert_array_equal(tally_lesions(truth, truth, 0.1)[0], [0, 1, 1, 1])


def test_a_volume_on_the_edge_belongs_to_the_class_above() -> None:
    ten_voxels = volume(MIDDLE)
    assert tally_lesions(ten_voxels, ten_voxels, 0.01)[0].tolist() == [0, 1, 0, 0]
    assert tally_lesions(ten_voxels, ten_voxels, 0.00999)[0].tolist() == [1, 0, 0, 0]


def test_one_component_finds_two_lesions_and_is_one_true_component() -> None:
    tally = tally_lesions(volume(LONG), volume(SMALL, MIDDLE, LARGE), 0.01)
    lesions, found, components, true = tally
    assert lesions.tolist() == [1, 1, 1, 0]
    assert found.tolist() == [0, 1, 1, 0]
    assert components.tolist() == true.tolist() == [0, 1, 0, 0]
    assert (recall(tally), precision(tally)) == (2 / 3, 1.0)
    assert f1(tally) == pytest.approx(2 * (2 / 3) / (5 / 3))
    assert (recall(tally[:, [0]]), recall(tally[:, [2]])) == (0.0, 1.0)


def test_two_components_in_one_lesion_find_it_once() -> None:
    parts = volume(np.s_[0:1, 0:1, 0:1], np.s_[0:1, 0:1, 4:5])
    tally = tally_lesions(parts, volume(np.s_[0:1, 0:1, 0:5]), 0.01)
    assert tally.sum(axis=1).tolist() == [1, 1, 2, 2]


def test_corners_connect() -> None:
    diagonal = volume(np.s_[0:1, 0:1, 0:1], np.s_[1:2, 1:2, 1:2])
    assert tally_lesions(diagonal, diagonal, 0.01).sum(axis=1).tolist() == [1, 1, 1, 1]


def test_what_is_not_there_has_no_rate() -> None:
    nothing = tally_lesions(volume(), volume(), 0.01)
    assert all(math.isnan(rate(nothing)) for rate in (recall, precision, f1))
    missed = tally_lesions(volume(), volume(SMALL), 0.01)
    assert (recall(missed), f1(missed)) == (0.0, 0.0)
    assert math.isnan(precision(missed))
    made_up = tally_lesions(volume(SMALL), volume(), 0.01)
    assert (precision(made_up), f1(made_up)) == (0.0, 0.0)
    assert math.isnan(recall(made_up))
    assert f1(tally_lesions(volume(SMALL), volume(LARGE), 0.01)) == 0.0


@pytest.mark.parametrize("order", ["C", "F"])
def test_classes_together_are_the_plain_counts(order: Literal["C", "F"]) -> None:
    rng = np.random.default_rng(0)
    mask, truth = (np.asarray(rng.random((12, 9, 7)) > 0.93, order=order) for _ in range(2))
    lesions, found, components, true = tally_lesions(mask, truth, 0.05).sum(axis=1).tolist()
    numbered = [ndimage.label(volume, np.ones((3, 3, 3))) for volume in (truth, mask)]
    assert [lesions, components] == [count for _, count in numbered]
    assert [found, true] == [np.unique(labels[mask & truth]).size for labels, _ in numbered]
    assert 0 < found < lesions
    assert 0 < true < components
