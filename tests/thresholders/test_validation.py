"""The threshold has the highest DICE of all thresholds, over all scans together."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from tests.commands import besides_amber, call
from uadtk import checkpoint as checkpoints
from uadtk.core.errors import DataError, UsageError
from uadtk.core.options import build
from uadtk.core.thresholder import CalibrationScan, Choice
from uadtk.thresholders.validation import Options, Thresholder


def scan(score: object, lesion: object, brain: Any = True, subject: str = "s") -> CalibrationScan:
    """From nested lists, or from one row."""
    voxels = np.atleast_3d(np.asarray(score, np.float32))
    marked = np.reshape(np.asarray(lesion, bool), voxels.shape)
    inside = np.broadcast_to(np.reshape(brain, voxels.shape if np.ndim(brain) else ()), voxels.shape)
    return CalibrationScan(subject, voxels, inside, marked, 0.001)


def choose(*scans: CalibrationScan, min_voxels: int = 1) -> Choice:
    return Thresholder(Options(min_voxels)).choose(scans)


def dice(scans: list[CalibrationScan], threshold: float, min_voxels: int = 1) -> float:
    """DICE of the mask that segment would write, by SciPy."""
    tp = total = 0
    for one in scans:
        labels, count = ndimage.label((one.score > np.float32(threshold)) & one.brain, np.ones((3, 3, 3)))
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        mask = (labels > 0) & (sizes[labels] >= min_voxels)
        tp, total = tp + int((mask & one.lesion).sum()), total + int(mask.sum() + one.lesion.sum())
    return 2 * tp / total


@st.composite
def labelled(draw: st.DrawFn) -> CalibrationScan:
    shape = draw(st.tuples(*[st.integers(1, 5)] * 3))
    levels = st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.8])
    lesion = draw(arrays(bool, shape))
    lesion.flat[0] = True
    score = draw(arrays(np.float32, shape, elements=levels))
    score.flat[0] = 0.6
    return scan(score, lesion)


def test_lesions_that_are_all_smaller_than_the_components_kept_leave_no_interval() -> None:
    lone = scan(np.full((1, 1, 1), 0.6, np.float32), np.ones((1, 1, 1), bool))
    choice = choose(lone, lone, lone, min_voxels=2)
    assert (choice.measured["dice"], choice.interval) == (0.0, None)


@settings(max_examples=150, deadline=None)
@given(st.lists(labelled(), min_size=1, max_size=4), st.integers(1, 4))
def test_no_threshold_is_better_and_of_equal_ones_it_is_the_highest(
    scans: list[CalibrationScan], min_voxels: int
) -> None:
    candidates = {t: dice(scans, t, min_voxels) for t in (0.0, 0.3, 0.5, 0.7)}  # every mask but the full one
    highest = max(candidates.values())
    try:
        choice = choose(*scans, min_voxels=min_voxels)
    except DataError:
        assert dice(scans, -1, min_voxels) >= highest
        return
    assert choice.measured["dice"] == pytest.approx(highest, abs=1e-12)
    assert dice(scans, choice.threshold, min_voxels) == pytest.approx(highest, abs=1e-12)
    best = max(t for t, value in candidates.items() if value == highest)
    above = {0.0: 0.2, 0.3: 0.4, 0.5: 0.6, 0.7: 0.8}[best]
    kept = np.concatenate([one.score[one.score > np.float32(choice.threshold)] for one in scans])
    if highest > 0:
        assert min(kept) >= np.float32(above)


def test_dice_is_pooled_over_the_voxels_of_all_scans() -> None:
    """Scan by scan the best would be 0.5 and 0.1. Together: above 0.5, 2 * 1 / (1 + 4); above 0.1, 2 * 4 / (6 + 4)."""
    first = scan([[[0.9, 0.4, 0.3, 0]]], [1, 0, 0, 0], subject="a")
    second = scan([[[0.3, 0.2, 0.2, 0.05]]], [1, 1, 1, 0], subject="b")
    choice = choose(first, second)
    assert choice.measured == {"dice": pytest.approx(0.8)}
    assert choice.threshold == np.nextafter(np.float32(0.2), np.float32(0))
    assert choice.interval is None  # of two scans nothing is drawn


def test_small_components_can_be_left_out_of_the_count() -> None:
    """Three voxels of lesion at 0.5, a bright voxel beside them: without the filter the best is 2 * 3 / (4 + 3)."""
    lone = scan([[[0.9, 0, 0.5, 0.5, 0.5, 0]]], [0, 0, 1, 1, 1, 0])
    assert choose(lone).measured["dice"] == pytest.approx(6 / 7)
    filtered = choose(lone, min_voxels=2)
    assert filtered.measured["dice"] == 1
    assert filtered.target == "highest DICE on labelled scans, components of 2 voxels or more"


def test_lesion_outside_the_brain_is_missed_and_a_scan_without_mask_has_none() -> None:
    one = scan([[[0.9, 0.9, 0.1, 0]]], [1, 1, 0, 0], brain=[True, False, True, True])
    assert choose(one).measured["dice"] == pytest.approx(2 / 3)
    healthy = CalibrationScan("h", one.score, one.brain, None, 0.001)
    assert choose(one, healthy).measured["dice"] == pytest.approx(2 / 4)


def test_the_interval_is_that_of_scans_drawn_again() -> None:
    """Where each scan has its own best threshold, the interval spans them; where they agree, it is a point."""

    def one(level: float, subject: str) -> CalibrationScan:
        return scan([[[level, level - 0.1, 0]]], [1, 0, 0], subject=subject)

    agreeing = choose(*(one(0.5, f"s{i}") for i in range(5)))
    low, high = agreeing.interval
    assert 0.39 < low <= agreeing.threshold <= high < 0.5
    spread = choose(*(one(0.2 * (i + 1), f"s{i}") for i in range(4)))
    low, high = spread.interval
    assert low < 0.2
    assert high > 0.3
    assert choose(*(one(0.2 * (i + 1), f"s{i}") for i in (2, 0, 3, 1))) == spread


def test_scans_are_streamed() -> None:
    """Only one scan is in memory at a time."""
    alive = []

    class Streamed:
        def __iter__(self) -> Iterator[CalibrationScan]:
            for i in range(6):
                made = scan(np.random.default_rng(i).random((6, 6, 6)), np.arange(216) < 50, subject=f"s{i}")
                alive.append(weakref.ref(made))
                yield made
                del made
                counted.append(sum(ref() is not None for ref in alive))

        def __len__(self) -> int:
            return 6

    counted: list[int] = []
    Thresholder(Options(2)).choose(Streamed())
    assert len(counted) >= 18
    assert max(counted) <= 2


def test_nothing_to_choose_by() -> None:
    with pytest.raises(DataError, match="validation: the labelled scans contain no lesion voxel"):
        choose(scan([[[0.5, 0.2]]], [0, 0]))
    with pytest.raises(DataError, match="validation: no threshold separates the lesions"):
        choose(scan([[[0.5, 0.2, 0]]], [0, 0, 1]))
    with pytest.raises(UsageError, match="validation: min_voxels=0: must be at least 1"):
        build(Options, {"min_voxels": "0"}, "validation")


def test_the_command_calibrates_on_the_labelled_scan_and_refuses_a_cohort_without(
    small_cohort: Path, tmp_path: Path
) -> None:
    path = tmp_path / "h.safetensors"
    threshold = ["threshold", "--model", "histeq", "--strategy", "validation", "--healthy", small_cohort, "-o", path]
    call(*threshold, "--split", "train").refused(2, "'validation' needs lesion masks, the cohort names none")
    assert not path.exists()
    done = call(*threshold)
    assert (done.code, besides_amber(done.err.splitlines())) == (0, [])
    (point,) = checkpoints.load(path).points
    assert (point.name, point.scans, point.interval) == ("validation", 1, None)
    assert 0.4 < point.measured["dice"] < 1
    assert "interval = none" in call("inspect", path).out
