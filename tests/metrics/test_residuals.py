"""Errors and histograms with closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from uadtk.metrics.residuals import chi_squared, error_sums, mean_and_sd, score_histograms


def test_mean_and_sd_of_normal_and_anomalous_voxels() -> None:
    rng = np.random.default_rng(0)
    score, truth = rng.random(500).astype(np.float32), rng.random(500) < 0.2
    for sums, values in zip(error_sums(score, truth), (score[~truth], score[truth]), strict=True):
        assert mean_and_sd(sums) == pytest.approx((values.mean(), values.std(ddof=1)), rel=1e-5)


def test_sums_of_scans_are_the_sums_of_their_voxels() -> None:
    score, truth = np.arange(10, dtype=np.float32), np.arange(10) % 3 == 0
    parts = error_sums(score[:4], truth[:4]) + error_sums(score[4:], truth[4:])
    np.testing.assert_array_equal(parts, error_sums(score, truth))
    np.testing.assert_array_equal(parts[1], [0 + 3 + 6 + 9, 9 + 36 + 81, 4])


def test_errors_are_absolute() -> None:
    sums = error_sums(np.array([-2.0, 2.0], np.float32), np.array([False, False]))
    assert mean_and_sd(sums[0]) == (2.0, 0.0)


def test_few_voxels_have_no_mean_or_no_sd() -> None:
    assert all(math.isnan(value) for value in mean_and_sd(np.zeros(3)))
    mean, sd = mean_and_sd(np.array([0.5, 0.25, 1]))
    assert mean == 0.5
    assert math.isnan(sd)


def test_equal_histograms_are_0_apart_and_disjoint_ones_1() -> None:
    assert chi_squared(np.array([[1, 2, 3], [10, 20, 30]])) == 0.0
    assert chi_squared(np.array([[5, 0, 1], [0, 7, 0]])) == pytest.approx(1.0)
    assert chi_squared(np.array([[1, 1], [1, 3]])) == pytest.approx(0.5 * (0.25**2 / 0.75 + 0.25**2 / 1.25))
    assert math.isnan(chi_squared(np.array([[1, 2], [0, 0]])))


def test_histograms_leave_zeros_out_and_hold_the_top() -> None:
    score = np.array([0, 0, 0.1, 0.9, 1.0, 0.0, 0.55], np.float32)
    truth = np.array([0, 0, 0, 0, 1, 1, 1], bool)
    np.testing.assert_array_equal(score_histograms(score, truth, top=1.0, bins=2), [[1, 1], [0, 2]])
    assert score_histograms(np.zeros(3, np.float32), np.zeros(3, bool), top=0.0).sum() == 0
