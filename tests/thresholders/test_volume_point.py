"""The mask has the same volume as the labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uadtk.plugin import CalibrationScan, DataError, NoOptions
from uadtk.thresholders.volume import Thresholder


def scan(seed: int, lesions: int, n: int = 400) -> CalibrationScan:
    """Distinct scores; a rim outside the brain that scores higher than anything in it."""
    rng = np.random.default_rng(seed)
    score, brain, lesion = np.full((2, n, 1), 9, np.float32), np.zeros((2, n, 1), bool), np.zeros((2, n, 1), bool)
    brain[0] = True
    score[0, :, 0] = rng.permutation(np.linspace(0, 1, n, dtype=np.float32)) + np.float32(seed) / 8192
    lesion[0, rng.choice(n, lesions, replace=False)] = True
    return CalibrationScan(f"s{seed}", score, brain, lesion, 0.001)


def choose(*scans: CalibrationScan) -> tuple[float, dict[str, float]]:
    choice = Thresholder(NoOptions()).choose(scans)
    return choice.threshold, choice.measured


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 200), min_size=1, max_size=4).filter(any))
def test_the_marked_voxels_of_all_scans_together_are_as_many_as_the_labels(lesions: list[int]) -> None:
    scans = [scan(seed, n) for seed, n in enumerate(lesions)]
    threshold, measured = choose(*scans)
    marked = sum(int((one.score[one.brain] > np.float32(threshold)).sum()) for one in scans)
    assert measured == {"lesion": sum(lesions), "marked": marked}
    assert abs(marked - sum(lesions)) <= 1


def test_where_the_lesions_are_does_not_matter() -> None:
    one = scan(0, 40)
    assert choose(one) == choose(replace(one, lesion=one.lesion[:, ::-1]))


def test_a_scan_without_mask_holds_no_lesion() -> None:
    one, bare = scan(0, 40), replace(scan(1, 1), lesion=None)
    assert choose(one, bare)[1]["lesion"] == 40


def test_labels_without_a_lesion_are_refused() -> None:
    with pytest.raises(DataError, match="contain no lesion voxel"):
        choose(scan(0, 0))


def test_labels_as_large_as_the_brain_mark_all_that_scores() -> None:
    assert choose(scan(0, 400))[0] == 0
