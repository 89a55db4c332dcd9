"""Grid of 0.001, average precision, ROC area and exact best DICE, against loops, np.histogram and scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from benchmarks.kernels.harness import SHAPES, Row, brain, interleave
from uadtk.kernels import average_precision, best_dice, detection_summary, dice_curve

GRID = (np.arange(1001) * 0.001).astype(np.float32)
LOOP, HISTOGRAMS = "loop over 1001 thresholds", "two np.histogram"
AP, BOTH, THREE = "scikit-learn AP", "scikit-learn AP and AUROC", "and its PR curve, for the best DICE"
_SAMPLED = 50  # every 50th threshold of the loop is timed


def rows(quick: bool) -> Iterator[Row]:
    repeats = 3 if quick else 7
    for name in ["sq"] if quick else SHAPES:
        sample = brain(name)
        yield _grid(name, sample.residual, sample.truth, repeats)
    for name in ["sq"] if quick else SHAPES:
        sample = brain(name)
        yield from _exact(name, sample.residual, sample.truth, 1 if quick else 3)


def first_call() -> None:
    best_dice(np.arange(8, dtype=np.float32), np.arange(8) > 5)


def _grid(name: str, score: Any, truth: Any, repeats: int) -> Row:
    curve = dice_curve(score, truth)
    for k in range(0, 1001, _SAMPLED):
        kept = score > GRID[k]
        assert (curve.tp[k], curve.fp[k]) == (np.count_nonzero(kept & truth), np.count_nonzero(kept & ~truth))

    def loop() -> None:
        for threshold in GRID[::_SAMPLED]:
            kept = score > threshold
            2 * np.count_nonzero(kept & truth) / (np.count_nonzero(kept) + np.count_nonzero(truth))

    def histograms() -> None:
        np.histogram(score, GRID)
        np.histogram(score[truth], GRID)

    medians = interleave({"ours": lambda: dice_curve(score, truth), LOOP: loop, HISTOGRAMS: histograms}, repeats)
    medians[LOOP] *= GRID.size / GRID[::_SAMPLED].size
    ours = medians.pop("ours")
    return Row(
        "dice_curve",
        f"1001 thresholds, {name}",
        ours,
        medians,
        {LOOP: 500, HISTOGRAMS: 1.5},
        {LOOP: 100, HISTOGRAMS: 1.2},
    )


def _exact(name: str, score: Any, truth: Any, repeats: int) -> Iterator[Row]:
    summary = detection_summary(score, truth)
    flat = truth.ravel(), score.ravel()
    assert abs(summary.average_precision - average_precision_score(*flat)) < 1e-12
    assert abs(summary.roc_auc - roc_auc_score(*flat)) < 1e-12
    precision, recall, _ = precision_recall_curve(*flat)
    assert abs(summary.best_dice.dice - np.max(2 * precision * recall / np.maximum(precision + recall, 1e-30))) < 1e-12

    def both() -> None:
        average_precision_score(*flat)
        roc_auc_score(*flat)

    medians = interleave(
        {
            "AP": lambda: average_precision(score, truth),
            "all": lambda: detection_summary(score, truth),
            AP: lambda: average_precision_score(*flat),
            BOTH: both,
            THREE: lambda: precision_recall_curve(*flat),
        },
        repeats,
    )
    case = f"exact, {name}, {summary.positives} positives"
    yield Row("average_precision", case, medians["AP"], {AP: medians[AP]}, 15, 8)
    peers = {BOTH: medians[BOTH], THREE: medians[BOTH] + medians[THREE]}
    yield Row("detection_summary", case, medians["all"], peers, {BOTH: 60}, {BOTH: 30})
