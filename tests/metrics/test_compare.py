"""The paired permutation test against closed forms and scipy, and its level under the null hypothesis."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from uadtk.metrics.compare import EXACT_PAIRS, Pair, Paired, all_pairs, compare, holm, paired_permutation

APPROX: Any = pytest.approx  # in place of a float


@pytest.mark.parametrize("n", [2, 3, 5, 10, EXACT_PAIRS])
def test_where_one_always_wins_only_two_ways_are_as_large(n: int) -> None:
    assert paired_permutation(np.linspace(0.1, 0.3, n)) == 2 / 2**n


def test_three_patients_counted_by_hand() -> None:
    # |+-1 +-2 +-4| is 7, 5, 3 and 1, each two ways: |1 + 2 - 4| is the smallest, |-1 + 2 + 4| the second largest
    assert paired_permutation(np.array([1.0, 2.0, -4.0])) == 1
    assert paired_permutation(np.array([-1.0, 2.0, 4.0])) == 4 / 8


def far_from_zero(sample: np.ndarray, axis: int) -> np.ndarray:
    return np.abs(sample.sum(axis=axis))


@given(st.lists(st.integers(-64, 64), min_size=2, max_size=8))
def test_exact_as_scipy(eighths: list[int]) -> None:
    differences = np.array(eighths) / 8  # sums without rounding
    theirs = stats.permutation_test(
        (differences,), far_from_zero, permutation_type="samples", n_resamples=np.inf, alternative="greater"
    )
    assert paired_permutation(differences) == pytest.approx(theirs.pvalue)
    assert paired_permutation(-differences) == paired_permutation(differences)


def test_no_difference_is_no_evidence() -> None:
    assert paired_permutation(np.zeros(8)) == 1
    assert paired_permutation(np.zeros(40)) == 1


def test_beyond_16_patients_the_drawn_ways_come_near_the_t_test_and_never_to_zero() -> None:
    differences = np.random.default_rng(0).normal(0.3, 1, 60)
    assert paired_permutation(differences) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.005)
    assert paired_permutation(differences, seed=1) == paired_permutation(differences, seed=1)
    assert paired_permutation(differences + 5) == 1 / 2**EXACT_PAIRS


def test_without_a_difference_5_of_100_tests_say_5_percent() -> None:
    rng = np.random.default_rng(3)
    share = np.mean([paired_permutation(rng.standard_t(3, 9)) <= 0.05 for _ in range(400)])
    assert share <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)
    assert share > 0.01


def test_patients_are_paired_by_name_and_lone_ones_left_out() -> None:
    one, other = {"a": 0.5, "b": 0.7, "c": 0.9}, {"c": 0.8, "a": 0.3, "d": 0.0}
    assert compare(one, other) == Paired(2, APPROX(0.15), 0.5)
    assert compare(other, one).difference == pytest.approx(-0.15)


def test_fewer_than_two_pairs_have_no_p() -> None:
    alone = compare({"a": 0.5}, {"a": 0.25})
    assert (alone.pairs, alone.difference) == (1, 0.25)
    assert math.isnan(alone.p)
    nobody = compare({"a": 0.5}, {"b": 0.25})
    assert nobody.pairs == 0
    assert math.isnan(nobody.difference)


def test_holm_multiplies_by_what_is_left_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # x 3, 1 (0.04 < 0.06), 2, 4
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_counts_no_test_that_could_not_be_done() -> None:
    first, none, second = holm([0.01, math.nan, 0.02])
    assert (first, second) == (0.02, 0.02)
    assert math.isnan(none)


def test_every_two_rows_are_compared_once_and_corrected_together() -> None:
    patients = "abcdef"
    values = {
        "low": dict.fromkeys(patients, 0.25),
        "high": dict.fromkeys(patients, 0.75),
        "alone": {"z": 1.0},
        "highest": dict.fromkeys(patients[:4], 1.0),
    }
    found = all_pairs(values, "ms", "dice")
    assert [(pair.one, pair.other) for pair in found] == [
        ("low", "high"), ("low", "alone"), ("low", "highest"), ("high", "alone"), ("high", "highest"),
        ("alone", "highest"),
    ]  # fmt: skip
    half, more = (-0.5, -0.5), (-0.75, -0.75)  # all patients have the same difference, and so has every draw
    assert found[0] == Pair("ms", "dice", "low", "high", 6, -0.5, 2 / 64, 3 * 2 / 64, *half)  # three tests are possible
    assert found[2] == Pair("ms", "dice", "low", "highest", 4, -0.75, 2 / 16, 2 * 2 / 16, *more)
    assert found[4].p_holm == 2 * 2 / 16  # 1 x 2/16, but not below the one before
    assert (found[1].pairs, math.isnan(found[1].p_holm), math.isnan(found[1].low)) == (0, True, True)


@pytest.mark.parametrize("patients", [5, 30])
def test_pairs_are_compared_as_each_on_its_own(patients: int) -> None:
    """They share their draws, also where some lack a patient."""
    rng = np.random.default_rng(patients)
    values = {f"row{row}": {str(k): v for k, v in enumerate(rng.random(patients)) if row or k} for row in range(4)}
    for pair in all_pairs(values, "ms", "dice", seed=3):
        alone = compare(values[pair.one], values[pair.other], seed=3)
        assert (pair.pairs, pair.difference, pair.p) == (alone.pairs, alone.difference, alone.p)
        (only,) = all_pairs({name: values[name] for name in (pair.one, pair.other)}, "ms", "dice", seed=3)
        assert (pair.low, pair.high) == (pytest.approx(only.low), pytest.approx(only.high))


def test_hundreds_of_pairs_take_little_longer_than_one() -> None:
    rng = np.random.default_rng(0)
    values = {f"row{row}": {str(k): v for k, v in enumerate(rng.random(60))} for row in range(24)}

    def seconds(rows: int) -> float:
        start = time.process_time()
        all_pairs({name: values[name] for name in list(values)[:rows]}, "", "dice")
        return time.process_time() - start

    seconds(2)
    assert seconds(24) < 60 * seconds(2)  # of 276 pairs; their draws, which take longest, are shared


def test_the_interval_of_a_difference_is_that_of_scipys_bootstrap() -> None:
    rng = np.random.default_rng(0)
    one, other = ({str(k): v for k, v in enumerate(rng.random(40))} for _ in range(2))
    (pair,) = all_pairs({"one": one, "other": other}, "ms", "dice")
    differences = np.array([one[k] - other[k] for k in one])
    theirs = stats.bootstrap((differences,), np.mean, method="percentile", rng=np.random.default_rng(1))
    assert pair.low == pytest.approx(theirs.confidence_interval.low, abs=0.01)
    assert pair.high == pytest.approx(theirs.confidence_interval.high, abs=0.01)
    assert pair.low < pair.difference < pair.high
