"""Validation: the DICE-optimal threshold on labelled scans, exact over all their scores.

Baur et al. 2021, section 4.3: the threshold with the highest DICE over the voxels of all validation scans together, to
be used on other scans. On the scans that it was chosen on, its DICE is an oracle's, not an estimate for new ones. The
study evaluates voxels before small components are dropped (``min_voxels=1``); ``min_voxels=8`` optimises masks as
``uadtk segment`` writes them. Among thresholds of equal DICE the highest is chosen.

Lesion voxels outside the brain count as missed, as no threshold can detect them; a scan without a lesion mask contains
no lesion.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk.kernels import best_component_dice, best_dice, component_sweep
from uadtk.plugin import CalibrationSet, Choice, DataError, option

_DRAWS = 1000
_GRID = 256


@dataclass(frozen=True)
class Options:
    min_voxels: int = option(1, "Smallest component kept, in voxels; 1 keeps all (study).", ge=1)


class Thresholder:
    Options = Options
    needs_lesions = True

    def __init__(self, options: Options) -> None:
        self.min_voxels = options.min_voxels

    def choose(self, scans: CalibrationSet) -> Choice:
        """``measured``: the DICE over all scans together. The interval is a 95 % bootstrap over three or more scans.

        Raises
        ------
        DataError
            No scan contains a lesion voxel, or no threshold is better than marking everything.
        """
        threshold = self._best(scans)
        grid = _grid(scans, threshold)
        counts = np.stack([count for _, count in sorted(self._counts(scans, grid), key=lambda named: named[0])])
        dice = _dice(counts.sum(0))[np.searchsorted(grid, np.float32(threshold))]
        small = f", components of {self.min_voxels} voxels or more" if self.min_voxels > 1 else ""
        interval = _interval(counts, grid, threshold)
        floor = self.min_voxels if self.min_voxels > 1 else None
        return Choice(threshold, f"highest DICE on labelled scans{small}", {"dice": float(dice)}, interval, floor)

    def _best(self, scans: CalibrationSet) -> float:
        def score() -> Iterator[NDArray[np.float32]]:
            return (scan.score_zyx for scan in scans)

        def truth() -> Iterator[NDArray[np.bool_]]:
            return (scan.lesion_zyx for scan in scans)

        if self.min_voxels == 1:
            best = best_dice(score, truth)
        else:
            best = best_component_dice(score, truth, self.min_voxels)
        if math.isnan(best.threshold):
            raise DataError(
                "the labelled scans contain no lesion voxel", "validation", "Calibrate on scans with lesions."
            )
        if best.threshold < 0:
            raise DataError("no threshold separates the lesions: they score no higher than the rest", "validation")
        return best.threshold

    def _counts(self, scans: CalibrationSet, grid: NDArray[np.float32]) -> Iterator[tuple[str, NDArray[np.int64]]]:
        """Subject, and (3, thresholds): kept voxels, true positives among them, and lesion voxels, per threshold."""
        for scan in scans:
            sweep = component_sweep(scan.score_zyx, scan.lesion_zyx, self.min_voxels, thresholds=grid)
            yield scan.subject, np.stack([sweep.voxels, sweep.true_positives, np.full(grid.size, sweep.positives)])


def _grid(scans: CalibrationSet, threshold: float) -> NDArray[np.float32]:
    """Candidate thresholds of the bootstrap, ascending. DICE is maximal just below the score of some lesion voxel.

    They are 256 such values, drawn equally from all scans with lesions, and the threshold itself.
    """
    shares = np.linspace(0, 1, _GRID)
    scores = (scan.score_zyx[scan.lesion_zyx] for scan in scans)
    of_each = [np.quantile(found, shares, method="inverted_cdf") for found in scores if found.size]
    of_all = np.quantile(np.concatenate(of_each), shares, method="inverted_cdf").astype(np.float32)
    return np.unique(np.r_[np.nextafter(of_all, np.float32(-np.inf)).clip(0), np.float32(threshold)])


def _dice(counts: NDArray[Any]) -> NDArray[np.float64]:
    """(..., 3, thresholds) -> (..., thresholds); 0 without any positive voxel."""
    kept, true, positives = np.moveaxis(counts, -2, 0)
    return 2 * true / np.maximum(kept + positives, 1)


def _interval(counts: NDArray[np.int64], grid: NDArray[np.float32], threshold: float) -> tuple[float, float] | None:
    """Interval of the best thresholds over scans drawn with replacement; draws without lesions have none."""
    n = len(counts)
    if n < 3:
        return None
    drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), _DRAWS)
    dice = _dice(np.tensordot(drawn, counts, 1))
    best = grid[dice.shape[1] - 1 - dice[:, ::-1].argmax(1)][dice.max(1) > 0]
    if not best.size:  # min_voxels so large that no threshold detects a lesion
        return None
    low, high = np.quantile(best, [0.025, 0.975])
    return min(float(low), threshold), max(float(high), threshold)
