"""The percentile over all healthy brain voxels is numpy's, and voxels outside the brain do not count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from uadtk.core.errors import DataError, UsageError
from uadtk.core.options import build
from uadtk.core.thresholder import CalibrationScan
from uadtk.thresholders.p98 import Options, Thresholder


def scans(*values: np.ndarray) -> list[CalibrationScan]:
    """One scan each, its values in the brain and 1000 around it."""
    made = []
    for i, inside in enumerate(values):
        score = np.full((inside.size + 3, 2, 1), 1000, np.float32)
        brain = np.zeros(score.shape, bool)
        brain[: inside.size, 1, 0] = True
        score[brain] = inside
        made.append(CalibrationScan(f"s{i}", score, brain, None, 0.001))
    return made


@pytest.mark.parametrize("percentile", [0.0, 50.0, 90.0, 98.0, 99.9, 100.0])
def test_it_is_numpys_percentile_pooled_over_scans_of_any_size(percentile: float) -> None:
    rng = np.random.default_rng(0)
    values = [rng.gamma(2, 0.1, n).astype(np.float32) for n in (1000, 17, 4321)]
    choice = Thresholder(Options(percentile)).choose(scans(*values))
    pooled = np.concatenate(values)
    assert choice.threshold == pytest.approx(np.percentile(pooled.astype(np.float64), percentile), rel=1e-6)
    assert choice.measured["voxel_fpr"] == (pooled > np.float32(choice.threshold)).mean()
    assert choice.measured["voxel_fpr"] == pytest.approx(1 - percentile / 100, abs=1 / pooled.size)
    assert choice.target == f"{percentile:g} % of healthy brain voxels"


def test_mostly_zero_scores_as_a_median_leaves_them() -> None:
    """The percentile may be 0: then every voxel above 0 is abnormal, and the rate says how many those are."""
    values = np.zeros(1000, np.float32)
    values[:10] = np.linspace(0.1, 1, 10)
    choice = Thresholder(Options()).choose(scans(values))
    assert choice.threshold == 0
    assert choice.measured["voxel_fpr"] == 0.01


def test_what_a_cleaner_excludes_does_not_count() -> None:
    """The rim that an erosion sets to 0 is no evidence of low scores."""
    values = np.random.default_rng(0).gamma(2, 0.1, 1000).astype(np.float32)
    (whole,) = scans(values)
    rim = np.zeros_like(whole.brain)
    rim[:400] = True
    eroded = replace(whole, score=np.where(rim, 0, whole.score), kept=~rim)
    choice = Thresholder(Options()).choose([eroded])
    assert choice.threshold == pytest.approx(np.percentile(values[400:].astype(np.float64), 98), rel=1e-6)
    assert choice.measured["voxel_fpr"] == pytest.approx(0.02, abs=1 / 600)
    assert Thresholder(Options()).choose([replace(eroded, kept=None)]).threshold < choice.threshold
    with pytest.raises(DataError, match="the cleaners exclude every healthy brain voxel"):
        Thresholder(Options()).choose([replace(eroded, kept=rim & ~rim)])


def test_one_voxel() -> None:
    assert Thresholder(Options()).choose(scans(np.array([0.25], np.float32))).threshold == 0.25


def test_options_are_checked() -> None:
    with pytest.raises(UsageError, match="percentile=101: must be at most 100"):
        build(Options, {"percentile": "101"}, "p98")
