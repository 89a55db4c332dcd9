"""DICE, average precision and ROC area against their definitions and scikit-learn, on every backend."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from backends import Backend, backend  # noqa: F401
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from uadtk.kernels import _levels, average_precision, best_dice, detection_summary, dice_curve, roc_auc
from uadtk.kernels._reference import dice as reference

SPECIAL = [0.0, -0.0, 1e-45, -1e-45, 1e-39, 0.5, float(np.nextafter(np.float32(0.5), np.float32(1))), 1.0, -1.0, 3e38]
LARGEST = float(np.finfo(np.float32).max)
ELEMENTS = st.one_of(
    st.floats(-2, 2, width=32), st.sampled_from([*SPECIAL, LARGEST, -LARGEST]).map(np.float32).map(float)
)


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[list[Any], list[Any]]:
    shapes = draw(st.lists(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=7), min_size=1, max_size=3))
    scores = [draw(hnp.arrays(np.float32, shape, elements=ELEMENTS)) for shape in shapes]
    return scores, [draw(hnp.arrays(bool, shape)) for shape in shapes]


def random_case(kind: str, shape: tuple[int, ...] = (11, 13, 17)) -> tuple[Any, Any]:
    rng = np.random.default_rng(5)
    truth = rng.random(shape) < 0.05
    score = rng.standard_normal(shape).astype(np.float32) / 4 + truth / 3
    score = {
        "dense": score,
        "residual": np.maximum(score - 0.2, 0),
        "ties": np.round(score * 8) / 8,
        "equal": np.full(shape, 0.3),
        "zeros": np.zeros(shape),
        "tiny": score * np.float32(1e-42),
        "outlier": np.where(score == score.max(), 1e30, score),
    }[kind]
    return score.astype(np.float32), truth


KINDS = ["dense", "residual", "ties", "equal", "zeros", "tiny", "outlier"]


@settings(max_examples=40, deadline=None)
@given(cohort=cohorts())
def test_equals_its_definition(backend: Backend, cohort: tuple[list[Any], list[Any]]) -> None:  # noqa: F811
    scores, truths = ([backend.array(one) for one in volumes] for volumes in cohort)
    with np.errstate(over="ignore"):
        wanted = reference.detection_summary(*cohort)
        got = backend.call("detection_summary", scores, truths)
    assert (got.positives, got.negatives) == (wanted.positives, wanted.negatives)
    np.testing.assert_equal(astuple(got.best_dice), astuple(wanted.best_dice))
    np.testing.assert_allclose(got.average_precision, wanted.average_precision, rtol=1e-12)
    np.testing.assert_allclose(got.roc_auc, wanted.roc_auc, rtol=1e-12)
    for step in (0.001, 0.3):
        curve, plain = backend.call("dice_curve", scores, truths, step=step), reference.dice_curve(*cohort, step=step)
        for name in ("thresholds", "dice", "tp", "fp", "positives"):
            np.testing.assert_array_equal(getattr(curve, name), getattr(plain, name))
        found = backend.call("best_dice", scores, truths, step=step)
        np.testing.assert_equal(astuple(found), astuple(reference.best(plain)))


@pytest.mark.parametrize("kind", KINDS)
def test_equals_scikit_learn(backend: Backend, kind: str) -> None:  # noqa: F811
    score, truth = random_case(kind)
    args = backend.array(score), backend.array(truth)
    flat = truth.ravel(), score.ravel()
    if kind != "zeros" and backend.name != "reference":  # the definition of AP is quadratic
        assert abs(backend.call("average_precision", *args) - average_precision_score(*flat)) < 1e-12
        assert abs(backend.call("roc_auc", *args) - roc_auc_score(*flat)) < 1e-12
    best = backend.call("best_dice", *args)
    kept = score > best.threshold
    assert (best.tp, best.fp) == (np.count_nonzero(kept & truth), np.count_nonzero(kept & ~truth))
    assert best.dice == 2 * best.tp / (best.tp + best.fp + truth.sum())


@pytest.mark.parametrize("kind", KINDS)
def test_counts_at_any_thresholds(kind: str) -> None:
    """The lookup is exact for any thresholds: even, clustered, at scores, and one ulp off."""
    from uadtk.kernels._numba.dice import count

    score, truth = random_case(kind)
    rng = np.random.default_rng(0)
    some = rng.choice(score.ravel(), 40)
    ulp = np.concatenate([some, np.nextafter(some, np.float32(9)), np.nextafter(some, np.float32(-9))])
    sets: list[Any] = [
        some[:1],
        some,
        ulp,
        np.r_[ulp, -np.inf],
        np.r_[some, 1e30, -1e30],
        np.array([0, 1e-45], np.float32),
    ]
    for chosen in sets:
        thresholds = np.unique(np.asarray(chosen, np.float32))
        counts = np.zeros((thresholds.size + 1, 2), np.int64)
        assert count(score, truth.view(np.uint8), _levels.prepare(thresholds), counts)
        fp, tp = _levels.at_least(counts).T
        plain = reference.curve(score.ravel(), truth.ravel(), thresholds)
        np.testing.assert_array_equal(tp, plain.tp)
        np.testing.assert_array_equal(fp, plain.fp)
        assert counts.sum() == score.size


def test_many_distinct_positives() -> None:
    """More levels than fit four private histograms."""
    rng = np.random.default_rng(2)
    score = rng.standard_normal(200_001).astype(np.float32)
    truth = rng.random(score.shape) < 0.2
    assert abs(average_precision(score, truth) - average_precision_score(truth, score)) < 1e-12
    assert abs(roc_auc(score, truth) - roc_auc_score(truth, score)) < 1e-12


def test_thresholds_are_those_of_numpy() -> None:
    """A score that is the float32 of a grid value is not above it, as in ``score > 0.3``."""
    score = np.array([0.3, np.nextafter(np.float32(0.3), np.float32(1)), 0.7, 0.001], np.float32)
    curve = dice_curve(score, np.ones(4), step=0.001)
    for k in (1, 300, 700):
        assert curve.tp[k] == np.count_nonzero(score > k / 1000)
    assert curve.thresholds.size == 1001
    assert curve.thresholds[-1] == 1


def test_of_equal_dice_the_highest_threshold_wins() -> None:
    score, truth = np.array([0.9, 0.1], np.float32), np.array([True, False])
    assert best_dice(score, truth).threshold == np.nextafter(np.float32(0.9), np.float32(0))
    assert best_dice(score, truth, step=0.25).threshold == 0.75


def test_one_class_only() -> None:
    score = np.array([0.1, 0.5, 0.5], np.float32)
    nothing = detection_summary(score, np.zeros(3))
    assert math.isnan(nothing.average_precision)
    assert math.isnan(nothing.roc_auc)
    assert math.isnan(nothing.best_dice.dice)
    assert math.isnan(best_dice(score, np.zeros(3), step=0.1).threshold)
    assert np.isnan(dice_curve(score, np.zeros(3)).dice).all()
    everything = detection_summary(score, np.ones(3))
    assert everything.average_precision == everything.best_dice.dice == 1
    assert math.isnan(everything.roc_auc)
    assert math.isnan(average_precision([], []))


def test_strides_dtypes_and_read_only(backend: Backend) -> None:  # noqa: F811
    score = np.asfortranarray(np.random.default_rng(1).integers(0, 9, (7, 8, 9)))[::-1, 1:, ::2]
    truth = (score > 4).astype(np.float64).T.copy().T * 3
    score.flags.writeable = truth.flags.writeable = False
    before = score.copy()
    got = backend.call("best_dice", backend.array(score), backend.array(truth))
    assert (got.dice, got.fp) == (1, 0)
    assert got.threshold == np.nextafter(np.float32(5), np.float32(0))
    np.testing.assert_array_equal(score, before)


def test_streams_from_disk(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(10):
        np.save(tmp_path / f"{i}.npy", np.maximum(rng.standard_normal((40, 64, 64)), 0).astype(np.float32))

    def load() -> Iterator[Any]:
        return (np.load(tmp_path / f"{i}.npy") for i in range(10))

    def truths() -> Iterator[Any]:
        return (score > 2.5 for score in load())

    detection_summary(load, truths)
    tracemalloc.start()
    try:
        got = detection_summary(load, truths)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert got == detection_summary(list(load()), list(truths()))
    assert got.best_dice.dice == 1
    assert peak < 4 * 40 * 64 * 64 * 4 + 4 * 2**20


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("positive", [True, False])
def test_non_finite_scores(backend: Backend, bad: float, positive: bool) -> None:  # noqa: F811
    if backend.name == "reference":
        pytest.skip("the definition takes valid scores")
    score, truth = np.ones(40, np.float32), np.zeros(40, bool)
    score[[3, 38]], truth[[3, 38, 5]] = bad, (positive, positive, True)
    for options in ({}, {"step": 0.1}):
        with pytest.raises(ValueError, match="NaN or infinite"):
            backend.call("best_dice", backend.array(score), backend.array(truth), **options)


@pytest.mark.parametrize(
    ("score", "truth", "step", "error", "message"),
    [
        (np.ones(3), np.ones(4), None, ValueError, r"truth has shape \(4,\), its score has shape \(3,\)"),
        ([np.ones(3)], [], None, ValueError, "fewer truths"),
        ([np.ones(3)], [np.ones(3)] * 2, None, ValueError, "more truths"),
        (iter([np.ones(3)]), [np.ones(3)], None, TypeError, "read only once"),
        (np.ones(3), np.ones(3), 0, ValueError, r"step must lie in \[1e-6, 1\]"),
        (np.ones(3), np.ones(3), 1.5, ValueError, r"step must lie in \[1e-6, 1\]"),
    ],
)
def test_errors_are_one_clear_line(
    score: Any, truth: Any, step: float | None, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        best_dice(score, truth, step=step)
    assert "\n" not in str(caught.value)
