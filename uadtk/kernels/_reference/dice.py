"""The definitions: everything in memory, one pass over the voxels per threshold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk.kernels.dice import BestDice, DetectionSummary, DiceCurve


def dice_curve(score: Any, truth: Any, *, step: float = 0.001) -> DiceCurve:
    """As :func:`uadtk.kernels.dice_curve`, for valid NumPy arrays."""
    return curve(*pooled(score, truth), thresholds_of(step))


def best_dice(score: Any, truth: Any, *, step: float | None = None) -> BestDice:
    values, marked = pooled(score, truth)
    if not marked.any():
        return BestDice(math.nan, math.nan, 0, 0, 0)
    if step is None:  # below the lowest score of each mask; a mask whose lowest score is a negative's is never the best
        thresholds = np.nextafter(np.unique(values), np.float32(-np.inf))
    else:
        thresholds = thresholds_of(step)
    return best(curve(values, marked, thresholds))


def average_precision(score: Any, truth: Any) -> float:
    """The sum over thresholds of precision times the increase in recall."""
    values, marked = pooled(score, truth)
    total, before = 0.0, 0
    for cut in np.unique(values)[::-1]:
        tp = int(marked[values >= cut].sum())
        total += (tp - before) * tp / int((values >= cut).sum())
        before = tp
    return total / before if before else math.nan


def roc_auc(score: Any, truth: Any) -> float:
    """The share of positive-negative pairs of voxels in which the positive scores higher; ties count half."""
    values, marked = pooled(score, truth)
    differences = values[marked].astype(np.float64)[:, None] - values[~marked]
    return float(((differences > 0) + 0.5 * (differences == 0)).mean()) if differences.size else math.nan


def detection_summary(score: Any, truth: Any) -> DetectionSummary:
    _, marked = pooled(score, truth)
    return DetectionSummary(
        average_precision(score, truth),
        roc_auc(score, truth),
        best_dice(score, truth),
        int(marked.sum()),
        int((~marked).sum()),
    )


def pooled(score: Any, truth: Any) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    scores, truths = (
        [one] if hasattr(one, "ndim") else list(one() if callable(one) else one) for one in (score, truth)
    )
    values = np.concatenate([np.asarray(one, np.float32).ravel() for one in scores])
    return values, np.concatenate([np.asarray(one).ravel() != 0 for one in truths])


def thresholds_of(step: float) -> NDArray[np.float32]:
    return (np.arange(int(1 / step + 1e-9) + 1) * step).astype(np.float32)


def curve(values: NDArray[np.float32], marked: NDArray[np.bool_], thresholds: NDArray[np.float32]) -> DiceCurve:
    tp = np.array([np.count_nonzero(marked & (values > t)) for t in thresholds], np.int64)
    fp = np.array([np.count_nonzero(~marked & (values > t)) for t in thresholds], np.int64)
    return DiceCurve.of(thresholds, tp, fp, int(marked.sum()))


def best(curve: DiceCurve) -> BestDice:
    """The best DICE; ties go to the highest threshold."""
    if not curve.positives:
        return BestDice(math.nan, math.nan, 0, 0, 0)
    k = max(range(curve.dice.size), key=lambda k: (curve.dice[k], k))
    return BestDice(
        float(curve.dice[k]), float(curve.thresholds[k]), int(curve.tp[k]), int(curve.fp[k]), curve.positives
    )
