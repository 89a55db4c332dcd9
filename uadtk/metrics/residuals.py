"""Errors of the reconstruction, and separation of the scores, of normal and anomalous voxels. Counts add over scans.

The study's tables give l1 errors of 1e-8 and less in an unknown unit; here they are plain means.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 100


def error_sums(error: NDArray[np.float32], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Sum of |error|, sum of its squares and number of voxels, for normal and for anomalous voxels; (2, 3)."""
    return np.array([_sums(error[~truth]), _sums(error[truth])])


def _sums(error: NDArray[np.float32]) -> tuple[float, float, int]:
    values = np.abs(error, dtype=np.float64)
    return float(values.sum()), float((values**2).sum()), values.size


def mean_and_sd(sums: NDArray[Any]) -> tuple[float, float]:
    """Mean and sample standard deviation (n - 1) from (sum, sum of squares, n); NaN where n is too small."""
    total, squares, n = (float(value) for value in sums)
    mean = total / n if n else math.nan
    return mean, math.sqrt(max(0.0, squares - n * mean**2) / (n - 1)) if n > 1 else math.nan


def score_histograms(
    score: NDArray[np.float32], truth: NDArray[np.bool_], top: float, bins: int = BINS
) -> NDArray[np.int64]:
    """Normal and anomalous voxels in ``bins`` equal bins from 0 to ``top``; int64 (2, bins). Zeros are excluded."""
    chosen = (score[~truth], score[truth])
    return np.stack([np.histogram(values[values > 0], bins, (0, top if top > 0 else 1))[0] for values in chosen])


def chi_squared(histograms: NDArray[Any]) -> float:
    """1/2 sum (a - b)^2 / (a + b) of the two histograms (2, bins), each divided by its sum.

    In [0, 1]: 0 if they are equal, 1 if they share no bin; NaN if one is empty. Grows with the number of bins. The
    study gives neither its formula nor its bins; this formula matches the range it reports.
    """
    totals = histograms.sum(axis=1, keepdims=True)
    if not totals.all():
        return math.nan
    a, b = histograms / totals
    return float(0.5 * ((a - b) ** 2 / np.where(a + b > 0, a + b, 1)).sum())
