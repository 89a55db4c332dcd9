"""Intervals: width, coverage, and sampling units."""

from __future__ import annotations

import numpy as np
import pytest

from uadtk.metrics.bootstrap import bootstrap


def mean(sums: np.ndarray) -> float:
    return sums[0] / sums[1]


def patients(values: np.ndarray) -> np.ndarray:
    return np.column_stack([values, np.ones(len(values))])


def test_the_interval_of_a_mean_is_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    ((low, high),) = bootstrap(mean, patients(values))
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_about_95_of_100_intervals_hold_the_true_mean() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for seed in range(300):
        ((low, high),) = bootstrap(mean, patients(rng.normal(0, 1, 40)), seed, draws=400)
        inside += low <= 0 <= high
    assert 0.90 <= inside / 300 <= 0.97  # percentile intervals of 40 are a little short; 3 sd of 300 trials are 0.04


def test_the_same_seed_draws_the_same_patients() -> None:
    sums = patients(np.random.default_rng(2).random(9))
    np.testing.assert_array_equal(bootstrap(mean, sums, seed=3), bootstrap(mean, sums, seed=3))
    assert (bootstrap(mean, sums, seed=3) != bootstrap(mean, sums, seed=4)).any()


def test_equal_patients_leave_no_doubt() -> None:
    np.testing.assert_allclose(bootstrap(mean, patients(np.full(5, 0.25))), [[0.25, 0.25]])


def test_every_draw_has_as_many_patients_as_the_cohort() -> None:
    ends = bootstrap(lambda sums: sums[1], patients(np.random.default_rng(5).random(7)))
    np.testing.assert_array_equal(ends, [[7, 7]])


def test_one_patient_has_no_interval() -> None:
    assert np.isnan(bootstrap(lambda sums: [mean(sums), 1.0], patients(np.array([0.5])))).all()


def test_draws_without_a_value_are_left_out() -> None:
    """With two patients, a quarter of the draws contain only the second, and have no value."""
    sums = np.array([[0.5, 1.0], [0.0, 0.0]])
    ends = bootstrap(lambda s: [s[0] / s[1] if s[1] else np.nan, np.nan], sums)
    np.testing.assert_array_equal(ends, [[0.5, 0.5], [np.nan, np.nan]])
