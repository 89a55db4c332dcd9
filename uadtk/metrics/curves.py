"""AUPRC, AUROC and ⌈DICE⌉ from counts at common thresholds: counts add over scans, so patients can be resampled.

The values of a whole cohort are exact (``uadtk.kernels.detection_summary``). Here each scan becomes two short rows of
counts, accurate enough for the interval around such a value: scores between two neighbouring thresholds are treated as
tied, about 1 / 1024 of the distinct scores of lesion voxels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk.kernels.dice import curve_at, positive_scores

CUTS = 1024
Stream = Callable[[], Iterable[NDArray[Any]]]


def common_thresholds(scores: Stream, truths: Stream, most: int = CUTS) -> NDArray[np.float32]:
    """Increasing thresholds: 0, and at most ``most`` scores of positive voxels, each with the float32 just below it.

    If there are more scores, a subset evenly spaced in rank is used; otherwise the counts are exact. No score is below
    0, and many are 0, set so by the scorer or a cleaner. Raises ValueError without positives.
    """
    cuts = positive_scores(scores, truths)
    if not cuts.size:
        raise ValueError("no voxel is positive")
    cuts = cuts[cuts > 0]
    places = np.linspace(0, cuts.size - 1, min(most, cuts.size)).round().astype(np.intp)
    below = np.nextafter(cuts[places], np.float32(0))
    thresholds: NDArray[np.float32] = np.unique(np.concatenate([np.zeros(1, np.float32), below, cuts[places]]))
    return thresholds


def kept(score: NDArray[np.float32], truth: NDArray[np.bool_], thresholds: NDArray[np.float32]) -> NDArray[np.int64]:
    """Positive and negative voxels of ``score > t``, int64 (2, n + 1): first all voxels, then per threshold."""
    curve = curve_at(score, truth, thresholds)
    all_of_them = [curve.positives, truth.size - curve.positives]
    return np.column_stack([all_of_them, np.stack([curve.tp, curve.fp])])


def average_precision_of(counts: NDArray[Any]) -> float:
    """Area under the precision-recall curve as a sum over its steps, in [0, 1]; NaN without positives.

    ``counts`` (2, n + 1) as from :func:`kept`. Equals ``uadtk.kernels.average_precision`` with scores between two
    thresholds tied.
    """
    tp, fp = counts
    if not tp[0]:
        return math.nan
    own = tp - np.append(tp[1:], 0)
    return float((own * (tp / np.maximum(tp + fp, 1))).sum() / tp[0])


def precision_recall_of(counts: NDArray[Any], most: int = 200) -> list[tuple[float, float]]:
    """(recall, precision) at ``most`` thresholds or fewer, evenly spaced in recall, from the highest threshold down.

    ``counts`` (2, n + 1) as from :func:`kept`. Thresholds above all scores have no precision and are left out.
    """
    tp, fp = np.asarray(counts, float)[:, ::-1]
    some = tp + fp > 0
    recall, precision = tp[some] / max(tp.max(initial=0), 1), tp[some] / (tp + fp)[some]
    places = np.unique(np.searchsorted(recall, np.linspace(0, 1, most)).clip(max=max(recall.size - 1, 0)))
    return [(float(r), float(p)) for r, p in zip(recall[places], precision[places], strict=True)] if recall.size else []


def roc_auc_of(counts: NDArray[Any]) -> float:
    """Probability that a positive voxel scores above a negative one, ties half, in [0, 1]; NaN without both kinds."""
    tp, fp = counts
    if not tp[0] or not fp[0]:
        return math.nan
    fp_without, own = np.append(fp[1:], 0), tp - np.append(tp[1:], 0)
    return float((own * (fp[0] - 0.5 * (fp + fp_without))).sum() / (float(tp[0]) * float(fp[0])))


def best_dice_of(counts: NDArray[Any]) -> float:
    """⌈DICE⌉ in [0, 1], the best over the thresholds; an oracle, as it uses the truth. NaN without positives."""
    tp, fp = counts
    return float((2 * tp / (tp + fp + tp[0])).max()) if tp[0] else math.nan
