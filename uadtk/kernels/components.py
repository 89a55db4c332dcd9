"""Thresholds with small components removed: the whole curve, its best DICE, and false positives on healthy scans.

Papers drop components of a few voxels after thresholding, which makes the search for a threshold expensive: every
candidate needs its own labelling. Here voxels are added by descending score while components grow and merge (a
union-find, as in max-trees: Najman & Couprie, Building the component tree in quasi-linear time, IEEE Transactions on
Image Processing 2006), so all thresholds together cost about as much as one.

The sweep is inherently sequential and runs on the CPU: CuPy arrays raise TypeError rather than being copied.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from uadtk.kernels import _levels
from uadtk.kernels._volumes import pairs
from uadtk.kernels.dice import BestDice, DiceCurve, best_of, curve_at, positive_scores
from uadtk.kernels.labels import check_rule
from uadtk.kernels.quantiles import RISING

Unit = Literal["voxels", "ml", "components"]
_COARSE = 1000


@dataclass(frozen=True)
class ComponentSweep:
    """Counts in ``score > thresholds[k]`` after dropping components of fewer than ``min_size`` voxels.

    Arrays of equal length, summed over all volumes: remaining ``voxels``, those that are positive in the truth, and the
    number of remaining ``components``. ``positives`` counts the voxels of the truth; ``dice`` is NaN if it is 0.
    """

    thresholds: NDArray[np.float32]
    voxels: NDArray[np.int64]
    true_positives: NDArray[np.int64]
    components: NDArray[np.int64]
    positives: int

    @property
    def dice(self) -> NDArray[np.float64]:
        return self._curve.dice

    @property
    def best(self) -> BestDice:
        """The best DICE of the curve, an oracle; ties go to the highest threshold."""
        return best_of(self._curve)

    @property
    def _curve(self) -> DiceCurve:
        return DiceCurve.of(self.thresholds, self.true_positives, self.voxels - self.true_positives, self.positives)


def component_sweep(
    score: Any,
    truth: Any,
    min_size: int = 8,
    connectivity: int = 26,
    *,
    step: float = 0.001,
    thresholds: Any = None,
) -> ComponentSweep:
    """Voxels, true positives and number of components at every threshold, with components filtered by size.

    Equals labelling ``score > threshold`` at each threshold, dropping components of fewer than ``min_size`` voxels and
    counting the rest, but in one sweep.

    Parameters
    ----------
    score : array (z, y, x), sequence of them, re-iterable, or callable that returns a fresh iterator
        NumPy, any strides, read as float32; volumes may differ in shape. One volume is in memory at a time; the
        sweep needs another 0.5 bytes per voxel and 24 bytes per voxel above the lowest threshold.
    truth : like ``score``
        Arrays of the scores' shapes, in the same order; non-zero is a positive voxel.
    min_size : int
        Smallest component in voxels; 1 keeps every component.
    connectivity : {6, 18, 26}
        Neighbours share a face; a face or an edge; a face, an edge or a corner.
    step : float
        Thresholds 0, step, 2 step, ... up to 1, rounded to float32 as NumPy does in ``score > 0.3``.
    thresholds : array, optional
        Strictly increasing thresholds instead of that grid; ``numpy.unique(score)`` gives all distinct scores.

    Raises
    ------
    ValueError
        Volumes not 3-D or of 2^31 voxels and more, non-finite scores, scores and truths that differ in shape or
        number, thresholds that do not increase, another connectivity, ``min_size`` below 1.
    TypeError
        An iterator, which can be read only once; a CuPy array.

    Examples
    --------
    >>> import numpy as np
    >>> score = np.array([[[0.9, 0.6, 0.0, 0.8, 0.0]]])
    >>> sweep = component_sweep(score, score > 0.5, min_size=2, step=0.25)
    >>> sweep.thresholds, sweep.voxels, sweep.components
    (array([0.  , 0.25, 0.5 , 0.75, 1.  ], dtype=float32), array([2, 2, 2, 0, 0]), array([1, 1, 1, 0, 0]))
    """
    connectivity, min_size = check_rule(connectivity, min_size)
    at = _levels.grid(step) if thresholds is None else _levels.rising(thresholds)
    kept, positives = _sweep(_candidates(score, truth, at[0]), at, min_size, connectivity)
    return ComponentSweep(at, kept[0], kept[1], kept[2], positives)


def best_component_dice(
    score: Any, truth: Any, min_size: int = 8, connectivity: int = 26, *, step: float | None = None
) -> BestDice:
    """⌈DICE⌉ with small components removed at every threshold. An oracle, as :func:`uadtk.kernels.best_dice`.

    The best of :func:`component_sweep`, from a fraction of the voxels: with P positives and K voxels in the mask, no
    lower threshold can exceed 2 P / (K + P), because K only grows; the sweep ends where this bound falls below the best
    so far.

    Parameters
    ----------
    score, truth, min_size, connectivity
        As for :func:`component_sweep`, arrays (z, y, x); read two to four times, more if the scores are poor.
    step : float, optional
        Only thresholds 0, step, 2 step, ... up to 1. Without it every distinct score is a candidate, and the
        voxels swept are held in memory for all volumes together, 8 bytes each.

    Returns
    -------
    BestDice
        Ties, rounding and NaN as in :func:`uadtk.kernels.best_dice`, which it equals for ``min_size=1``.

    Raises
    ------
    ValueError, TypeError
        As :func:`component_sweep`.

    Examples
    --------
    >>> import numpy as np
    >>> score = np.array([[[0.9, 0.6, 0.0, 0.8, 0.0]]])
    >>> best_component_dice(score, np.array([[[1, 1, 0, 0, 0]]]), min_size=2, step=0.25)
    BestDice(dice=1.0, threshold=0.5, tp=2, fp=0, positives=2)
    """
    connectivity, min_size = check_rule(connectivity, min_size)
    if step is not None:
        coarse = _levels.grid(step)
    else:
        cuts = positive_scores(score, truth)
        lowest = np.full(1, -np.inf, np.float32)
        coarse = np.concatenate([lowest, _levels.just_below(cuts[:: max(1, cuts.size // _COARSE)])])
    voxelwise = curve_at(score, truth, coarse)
    positives = voxelwise.positives
    if not positives:
        return best_of(voxelwise)
    # If removing components cost no DICE, the sweep could end at this many voxels; in general it goes a little further.
    enough = positives * (2 / max(float(voxelwise.dice.max()), 1e-9) - 1)
    factor = 1.15
    while True:
        reached = np.flatnonzero(voxelwise.tp + voxelwise.fp >= factor * enough)
        start = int(reached[-1]) if reached.size else 0
        if step is None:
            distinct, kept = _sweep_distinct(score, truth, coarse[start], min_size, connectivity)
            at = _levels.just_below(distinct)
        else:
            at = coarse[start:]
            kept, _ = _sweep(_candidates(score, truth, at[0]), at, min_size, connectivity)
        sweep = ComponentSweep(at, kept[0], kept[1], kept[2], positives)
        if start == 0 or 2 * positives / (int(sweep.voxels[0]) + positives) <= sweep.best.dice:
            return sweep.best
        factor *= 2


def healthy_fp_threshold(
    scores: Any,
    budget: float,
    unit: Unit = "voxels",
    *,
    voxel_ml: Any = None,
    min_size: int = 8,
    connectivity: int = 26,
) -> float:
    """The smallest threshold at and above which false positives on healthy scans stay within a budget.

    On scans without lesions every voxel of ``score > t`` is a false positive. The result is the smallest t such that at
    t and at *every* higher threshold the mean per scan is at most ``budget``, after dropping components of fewer than
    ``min_size`` voxels. (The number of components is not monotonic in the threshold, as one may split into two, so a
    bisection would be wrong.) The budget replaces the ground truth in choosing a threshold, like the false positive
    rate in You et al., Unsupervised lesion detection via image restoration with a normative prior, MIDL 2019.

    Parameters
    ----------
    scores : array (z, y, x), sequence of them, re-iterable, or callable that returns a fresh iterator
        One volume per scan; NumPy, any strides, read as float32. Read at least twice, one in memory at a time. Set
        voxels to be ignored, such as known lesions, to the lowest score.
    budget : float
        At least 0, per scan on average.
    unit : {"voxels", "ml", "components"}
        The quantity the budget limits.
    voxel_ml : float or sequence of floats
        Volume of a voxel in millilitres, one value or one per scan. For "ml" only.
    min_size, connectivity
        As for :func:`component_sweep`.

    Returns
    -------
    float
        A float32 value that occurs in the scores: exact over all distinct scores, without a grid. -inf if even a mask
        of all voxels is within the budget.

    Raises
    ------
    ValueError
        Negative budget, unknown unit, ``voxel_ml`` missing or given for another unit, no scans; otherwise as
        :func:`component_sweep`.
    TypeError
        An iterator, which can be read only once; a CuPy array.

    Examples
    --------
    >>> import numpy as np
    >>> scans = [np.array([[[0.0, 0.5, 0.7]]]), np.array([[[0.0, 0.2, 0.3]]])]
    >>> round(healthy_fp_threshold(scans, 1.0, min_size=1), 3)
    0.3
    """
    connectivity, min_size = check_rule(connectivity, min_size)
    if unit not in ("voxels", "ml", "components"):
        raise ValueError(f"unit must be 'voxels', 'ml' or 'components', got {unit!r}")
    if not budget >= 0:
        raise ValueError(f"budget must be at least 0, got {budget}")
    if (voxel_ml is not None) != (unit == "ml"):
        raise ValueError("voxel_ml must be given for unit 'ml', and only for it")

    halves = np.zeros((2, 1 << 16), np.int64)
    scans = 0
    for kernels, values, _ in pairs("quantiles", scores, ndim=3):
        kernels.upper_halves(values.reshape(-1).view(np.uint32), None, halves)
        scans += 1
    if not scans:
        raise ValueError("no scans to count false positives on")
    weights = _weights(voxel_ml, scans)
    edges, voxels_from = _from_halves(halves.sum(0))
    # First guess, enlarged if needed: most voxels above the threshold that uses up the budget survive the size filter.
    per_scan = budget * min_size if unit == "components" else budget / float(weights.min())
    wanted = (2 * per_scan + 500) * scans
    while True:
        reached = np.flatnonzero(voxels_from >= wanted)
        above = _levels.just_below(edges)[reached[-1]] if reached.size else np.float32(-np.inf)
        distinct, kept = _sweep_distinct(scores, None, above, min_size, connectivity, weights)
        over = np.flatnonzero(kept[2 if unit == "components" else 0] / scans > budget)
        if over.size:
            return float(distinct[over[-1]]) + 0.0
        if not reached.size:
            return -math.inf
        wanted *= 4


def _candidates(score: Any, truth: Any, above: np.float32) -> Iterator[tuple[ModuleType, Any]]:
    for kernels, values, marked in pairs("components", score, truth, ndim=3):
        candidates = kernels.gather(values, marked, above)
        if candidates is None:
            raise ValueError("score holds NaN or infinite values")
        yield kernels, candidates


def _sweep(
    found: Iterable[tuple[ModuleType, Any]],
    thresholds: NDArray[np.float32],
    min_size: int,
    connectivity: int,
    weights: Iterable[float] = itertools.repeat(1),
) -> tuple[NDArray[Any], int]:
    """(3, thresholds): voxels, positives and number of remaining components, a weighted sum over volumes.

    Also returns the number of positives in the truth, unweighted.
    """
    levels = _levels.prepare(thresholds)
    total: NDArray[Any] = np.zeros((3, thresholds.size), np.int64)
    positives = 0
    for (kernels, candidates), weight in zip(found, weights):  # noqa: B905, weights may be infinite
        total = total + weight * kernels.sweep(candidates, levels, min_size, connectivity)
        positives += candidates.positives
    return total, positives


def _sweep_distinct(
    score: Any,
    truth: Any,
    above: np.float32,
    min_size: int,
    connectivity: int,
    weights: Iterable[float] = itertools.repeat(1),
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """The distinct scores above ``above`` and, for each, the counts among voxels with at least that score."""
    lowest = np.zeros(0, np.float32)
    everything: NDArray[Any] = np.zeros((3, 0), np.int64)
    if above == -np.inf:
        # At the lowest score every volume is one component: no need to sweep the background.
        lowest, everything = _everything(score, truth, min_size, weights)
        above = lowest[0] if lowest.size else above
    found = list(_candidates(score, truth, above))
    distinct = np.unique(np.concatenate([np.zeros(0, np.float32), *(candidates.scores for _, candidates in found)]))
    kept: NDArray[Any] = np.zeros((3, 0), np.int64)
    if distinct.size:
        kept, _ = _sweep(found, _levels.just_below(distinct), min_size, connectivity, weights)
    return np.concatenate([lowest, distinct]), np.concatenate([everything, kept], 1)


def _everything(
    score: Any, truth: Any, min_size: int, weights: Iterable[float]
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """The lowest score, (1,) or (0,) without voxels; and the counts when every voxel is in the mask, (3, 1)."""
    lowest = math.inf
    kept: NDArray[Any] = np.zeros((3, 1), np.int64)
    for (_, values, marked), weight in zip(pairs("components", score, truth, ndim=3), weights):  # noqa: B905
        if values.size:
            lowest = min(lowest, float(values.min()))
        if values.size >= min_size:
            positives = 0 if marked is None else np.count_nonzero(marked)
            kept = kept + weight * np.array([[values.size], [positives], [1]])
    found = math.isfinite(lowest)
    return np.full(int(found), lowest, np.float32), kept[:, : int(found)]


def _weights(voxel_ml: Any, scans: int) -> NDArray[np.float64]:
    weights = np.asarray(1.0 if voxel_ml is None else voxel_ml, np.float64)
    if weights.shape not in ((), (scans,)) or not (weights > 0).all():
        raise ValueError(f"voxel_ml must be a positive number, or one for each of {scans} scans, got {voxel_ml}")
    return np.broadcast_to(weights, (scans,))


def _from_halves(counts: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The lowest float of each upper half, ascending, and the number of voxels at or above it."""
    bits = np.arange(1 << 16, dtype=np.uint32) << 16
    bits[1 << 15 :] |= 0xFFFF  # negative floats are stored as magnitudes
    return bits.view(np.float32)[RISING], counts[RISING][::-1].cumsum()[::-1]
