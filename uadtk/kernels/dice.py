"""Agreement of scores with the ground truth over all thresholds: DICE, average precision, area under the ROC curve.

All of them follow from the numbers of negatives and positives between consecutive thresholds, so only the scores of
the positives are sorted, and volumes are streamed: memory does not grow with their number.

The best DICE over all thresholds, written ⌈DICE⌉ in the literature, uses the truth to choose the threshold. It is an
oracle: an upper bound over all thresholds, not an estimate of a method's performance on new scans
(Baur et al., Autoencoders for unsupervised anomaly segmentation in brain MR images, Medical Image Analysis 2021).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk.kernels import _levels
from uadtk.kernels._volumes import pairs


@dataclass(frozen=True)
class BestDice:
    """The best DICE of ``score > threshold``; an oracle, see :mod:`uadtk.kernels.dice`.

    ``threshold`` is a float32 value; ``tp`` and ``fp`` are true and false positive voxels at it, ``positives`` the
    positive voxels of the truth.
    """

    dice: float
    threshold: float
    tp: int
    fp: int
    positives: int


@dataclass(frozen=True)
class DiceCurve:
    """``score > thresholds[k]`` has ``tp[k]`` true and ``fp[k]`` false positive voxels; arrays of equal length."""

    thresholds: NDArray[np.float32]
    dice: NDArray[np.float64]
    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    positives: int

    @classmethod
    def of(
        cls, thresholds: NDArray[np.float32], tp: NDArray[np.int64], fp: NDArray[np.int64], positives: int
    ) -> DiceCurve:
        dice = 2 * tp / (tp + fp + positives) if positives else np.full(tp.shape, np.nan)
        return cls(thresholds, dice, tp, fp, positives)


@dataclass(frozen=True)
class DetectionSummary:
    """Three measures from one pass over the scores: :func:`average_precision`, :func:`roc_auc`, :func:`best_dice`."""

    average_precision: float
    roc_auc: float
    best_dice: BestDice
    positives: int
    negatives: int


def best_dice(score: Any, truth: Any, *, step: float | None = None) -> BestDice:
    """⌈DICE⌉: the best DICE over all thresholds, and its threshold. An oracle: it uses the ground truth.

    DICE = 2 TP / (2 TP + FP + FN) of ``score > threshold``, over the voxels of all volumes together.

    Parameters
    ----------
    score : array, sequence of arrays, re-iterable, or callable that returns a fresh iterator
        Higher is more abnormal; any shape, strides and sign, read as float32. An array is one volume. Read twice, one
        array in memory at a time; a callable can load from disk: ``lambda: (read(path) for path in paths)``.
    truth : like ``score``
        Arrays of the scores' shapes, in their order; non-zero is a positive voxel.
    step : float, optional
        Only thresholds 0, step, 2 step, ... up to 1, as in the greedy search of the literature (Baur et al. 2021 use
        0.001), rounded to float32 as NumPy does in ``score > 0.3``; the data are read once. Without it the search is
        exact: every distinct score is a candidate.

    Returns
    -------
    BestDice
        Ties go to the highest threshold. Without ``step`` it is the largest float32 below the lowest score in the mask.
        ``dice`` and ``threshold`` are NaN if no voxel is positive.

    Raises
    ------
    ValueError
        Non-finite scores, scores and truths that differ in shape or number, ``step`` outside [1e-6, 1].
    TypeError
        An iterator, which can be read only once; some arrays on the host and some on the device.

    Examples
    --------
    >>> import numpy as np
    >>> best_dice(np.array([0.1, 0.6, 0.4, 0.9]), np.array([0, 1, 0, 1]), step=0.25)
    BestDice(dice=1.0, threshold=0.5, tp=2, fp=0, positives=2)
    """
    if step is None:
        return detection_summary(score, truth).best_dice
    return best_of(dice_curve(score, truth, step=step))


def dice_curve(score: Any, truth: Any, *, step: float = 0.001) -> DiceCurve:
    """DICE of ``score > t`` at every threshold of a grid; its maximum is an oracle, see :func:`best_dice`.

    Parameters
    ----------
    score, truth
        As for :func:`best_dice`: arrays of any shape, or several volumes, pooled; read once.
    step : float
        Thresholds 0, step, 2 step, ... up to 1, rounded to float32 as NumPy does in ``score > 0.3``.

    Returns
    -------
    DiceCurve
        ``dice`` is NaN everywhere if no voxel is positive.

    Raises
    ------
    ValueError, TypeError
        As :func:`best_dice`.

    Examples
    --------
    >>> import numpy as np
    >>> curve = dice_curve(np.array([0.1, 0.6, 0.4, 0.9]), np.array([0, 1, 0, 1]), step=0.5)
    >>> curve.tp, curve.fp
    (array([2, 2, 0]), array([2, 0, 0]))
    """
    thresholds = _levels.grid(step)
    return curve_at(score, truth, thresholds)


def average_precision(score: Any, truth: Any) -> float:
    """Area under the precision-recall curve as a sum over its steps, equal to scikit-learn's within 1e-12.

    Tied scores form one step. NaN if no voxel is positive; 1 if all are.

    Parameters
    ----------
    score, truth
        As for :func:`best_dice`: arrays of any shape, or several volumes, pooled; read twice.

    Raises
    ------
    ValueError, TypeError
        As :func:`best_dice`.

    Examples
    --------
    >>> import numpy as np
    >>> round(average_precision(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])), 3)
    0.833
    """
    return detection_summary(score, truth).average_precision


def roc_auc(score: Any, truth: Any) -> float:
    """Area under the ROC curve, equal to scikit-learn's ``roc_auc_score`` within 1e-12.

    The probability that a positive voxel scores higher than a negative one, ties counting half. NaN if all voxels
    are negative or all are positive.

    Parameters
    ----------
    score, truth
        As for :func:`best_dice`: arrays of any shape, or several volumes, pooled; read twice.

    Raises
    ------
    ValueError, TypeError
        As :func:`best_dice`.

    Examples
    --------
    >>> import numpy as np
    >>> roc_auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
    0.75
    """
    return detection_summary(score, truth).roc_auc


def detection_summary(score: Any, truth: Any) -> DetectionSummary:
    """Average precision, area under the ROC curve and exact best DICE, at the cost of one.

    Memory besides the volume being read: about 100 bytes per distinct score of a positive voxel.

    Parameters
    ----------
    score, truth
        As for :func:`best_dice`: arrays of any shape, or several volumes, pooled; read twice.

    Raises
    ------
    ValueError, TypeError
        As :func:`best_dice`.
    """
    # Recall changes only at scores of positives, and the lowest score in the best mask is one of them. So they are the
    # only thresholds needed: just below each (includes it) and at each (excludes it); the difference is its ties.
    cuts = positive_scores(score, truth)
    if cuts.size == 0:
        negatives = int(_counts(score, truth, np.zeros(1, np.float32))[:, 0].sum())
        nothing = BestDice(math.nan, math.nan, 0, 0, 0)
        return DetectionSummary(math.nan, math.nan, nothing, 0, negatives)
    thresholds = np.union1d(_levels.just_below(cuts), cuts)
    counts = _counts(score, truth, thresholds)
    negatives, positives = (int(n) for n in counts.sum(0))
    above = _levels.at_least(counts)
    fp, tp = above[np.searchsorted(thresholds, _levels.just_below(cuts))].T
    fp_without, tp_without = above[np.searchsorted(thresholds, cuts)].T

    own = tp - tp_without
    average = float((own * (tp / (tp + fp))).sum() / positives)
    pairs_won = own * (negatives - fp) + 0.5 * own * (fp - fp_without)
    auc = float(pairs_won.sum() / (float(positives) * negatives)) if negatives else math.nan
    best = best_of(DiceCurve.of(_levels.just_below(cuts), tp, fp, positives))
    return DetectionSummary(average, auc, best, positives, negatives)


def curve_at(score: Any, truth: Any, thresholds: NDArray[np.float32]) -> DiceCurve:
    """:func:`dice_curve` at strictly increasing thresholds."""
    counts = _counts(score, truth, thresholds)
    fp, tp = _levels.at_least(counts).T
    return DiceCurve.of(thresholds, tp, fp, int(counts[:, 1].sum()))


def best_of(curve: DiceCurve) -> BestDice:
    """The best point of a curve; ties go to the highest threshold."""
    if not curve.positives:
        return BestDice(math.nan, math.nan, 0, 0, 0)
    k = curve.dice.size - 1 - int(curve.dice[::-1].argmax())
    return BestDice(
        float(curve.dice[k]), float(curve.thresholds[k]), int(curve.tp[k]), int(curve.fp[k]), curve.positives
    )


def positive_scores(score: Any, truth: Any) -> NDArray[np.float32]:
    """Distinct scores of positive voxels, ascending."""
    found = [np.zeros(0, np.float32)]
    for kernels, values, marked in pairs("dice", score, truth):
        found.append(kernels.positives(values, marked))
    cuts = np.unique(np.concatenate(found))
    if not np.isfinite(cuts).all():
        raise ValueError("score holds NaN or infinite values")
    return cuts


def _counts(score: Any, truth: Any, thresholds: NDArray[np.float32]) -> NDArray[np.int64]:
    """Negatives and positives per level, (len(thresholds) + 1, 2)."""
    levels = _levels.prepare(thresholds)
    counts = np.zeros((levels.size + 1, 2), np.int64)
    for kernels, values, marked in pairs("dice", score, truth):
        if not kernels.count(values, marked, levels, counts):
            raise ValueError("score holds NaN or infinite values")
    return counts
