"""Measures from counts, against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, roc_auc_score

from uadtk.metrics.curves import (
    average_precision_of,
    best_dice_of,
    common_thresholds,
    kept,
    precision_recall_of,
    roc_auc_of,
)


def cohort(seed: int, scans: int = 3, levels: int | None = None) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Scores in [0, 1), with many ties if ``levels`` is small, and truths correlated with them."""
    rng = np.random.default_rng(seed)
    scores = [rng.random(400).astype(np.float32) for _ in range(scans)]
    truths = [rng.random(400) < 0.4 * score for score in scores]
    return [np.floor(s * levels) / np.float32(levels) if levels else s for s in scores], truths


def counted(scores: list[np.ndarray], truths: list[np.ndarray], most: int = 1024) -> np.ndarray:
    thresholds = common_thresholds(lambda: scores, lambda: truths, most)
    return np.sum([kept(score, truth, thresholds) for score, truth in zip(scores, truths, strict=True)], axis=0)


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), levels=st.sampled_from([None, 1, 2, 7, 50]))
def test_with_a_threshold_for_every_score_all_is_exact(seed: int, levels: int | None) -> None:
    scores, truths = cohort(seed, levels=levels)
    counts, score, truth = counted(scores, truths), np.concatenate(scores), np.concatenate(truths)
    assert average_precision_of(counts) == pytest.approx(average_precision_score(truth, score), abs=1e-12)
    assert roc_auc_of(counts) == pytest.approx(roc_auc_score(truth, score), abs=1e-12)
    best = max(f1_score(truth, score >= t) for t in np.unique(score[truth]))
    assert best_dice_of(counts) == pytest.approx(best, abs=1e-12)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), levels=st.sampled_from([1, 2, 7]))
def test_the_precision_recall_curve_is_that_of_scikit_learn(seed: int, levels: int) -> None:
    scores, truths = cohort(seed, levels=levels)
    score, truth = np.concatenate(scores), np.concatenate(truths)
    precision, recall, _ = precision_recall_curve(truth, score)
    expected = dict(zip(recall.round(9).tolist(), precision.tolist(), strict=True))  # the last of a recall is the best
    found = precision_recall_of(counted(scores, truths))
    assert [r for r, _ in found] == pytest.approx(sorted(r for r in expected if r > 0))
    assert [p for _, p in found] == pytest.approx([expected[round(r, 9)] for r, _ in found])


def test_a_curve_of_few_points_starts_at_the_highest_threshold_and_ends_with_all_voxels() -> None:
    counts = np.array([[4, 4, 3, 2, 1, 0], [6, 6, 1, 1, 0, 0]])
    assert precision_recall_of(counts) == [(0.25, 1.0), (0.5, 2 / 3), (0.75, 0.75), (1.0, 0.4)]
    assert precision_recall_of(counts, most=2) == [(0.25, 1.0), (1.0, 0.4)]
    assert precision_recall_of(np.zeros((2, 3))) == []


def test_fewer_thresholds_are_as_good_as_scores_rounded_down_to_them() -> None:
    scores, truths = cohort(1, scans=8)
    thresholds = common_thresholds(lambda: scores, lambda: truths, 30)
    assert len(thresholds) == 2 * 30 + 1
    counts, score, truth = counted(scores, truths, 30), np.concatenate(scores), np.concatenate(truths)
    rounded = np.searchsorted(thresholds, score, "left")
    assert average_precision_of(counts) == pytest.approx(average_precision_score(truth, rounded), abs=1e-12)
    assert roc_auc_of(counts) == pytest.approx(roc_auc_score(truth, rounded), abs=1e-12)
    assert roc_auc_of(counts) == pytest.approx(roc_auc_score(truth, score), abs=0.01)


def test_counts_begin_with_every_voxel_then_those_above_0() -> None:
    scores, truths = cohort(2, levels=4)
    score, truth = np.concatenate(scores), np.concatenate(truths)
    truth[:9] = score[:9] == 0  # lesion voxels set to 0 by the scorer
    for most in (1, 2, 17):
        counts = counted([score], [truth], most)
        assert counts[:, 0].tolist() == [truth.sum(), (~truth).sum()]
        assert counts[:, 1].tolist() == [(truth & (score > 0)).sum(), (~truth & (score > 0)).sum()]
    assert counts[0, 0] > counts[0, 1]


def test_a_score_of_0_everywhere_is_as_good_as_chance() -> None:
    counts = counted([np.zeros(8, np.float32)], [np.arange(8) < 2])
    assert (roc_auc_of(counts), average_precision_of(counts)) == (0.5, 0.25)


def test_without_lesions_nothing_is_defined() -> None:
    scores, truths = cohort(3)
    with pytest.raises(ValueError, match="no voxel is positive"):
        common_thresholds(lambda: scores, lambda: [truth & False for truth in truths])
    no_positives, no_negatives = np.array([[0, 0], [5, 2]]), np.array([[5, 2], [0, 0]])
    assert all(math.isnan(f(no_positives)) for f in (average_precision_of, roc_auc_of, best_dice_of))
    assert math.isnan(roc_auc_of(no_negatives))
    assert average_precision_of(no_negatives) == best_dice_of(no_negatives) == 1.0
