"""The definitions: components are labelled again at every threshold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk.kernels._reference.dice import pooled, thresholds_of
from uadtk.kernels._reference.labels import label_components
from uadtk.kernels.components import ComponentSweep
from uadtk.kernels.dice import BestDice


def component_sweep(
    score: Any, truth: Any, min_size: int = 8, connectivity: int = 26, *, step: float = 0.001, thresholds: Any = None
) -> ComponentSweep:
    """As :func:`uadtk.kernels.component_sweep`, for valid NumPy arrays."""
    at = thresholds_of(step) if thresholds is None else np.asarray(thresholds, np.float32)
    total = np.zeros((3, at.size), np.int64)
    for values, marked in zip(_listed(score), _listed(truth), strict=True):
        total += np.array([_kept(values, marked, t, min_size, connectivity) for t in at], np.int64).T
    return ComponentSweep(at, total[0], total[1], total[2], int(pooled(score, truth)[1].sum()))


def best_component_dice(
    score: Any, truth: Any, min_size: int = 8, connectivity: int = 26, *, step: float | None = None
) -> BestDice:
    values, marked = pooled(score, truth)
    if not marked.any():
        return BestDice(math.nan, math.nan, 0, 0, 0)
    if step is not None:
        return component_sweep(score, truth, min_size, connectivity, step=step).best
    below = np.nextafter(np.unique(values), np.float32(-np.inf))
    return component_sweep(score, truth, min_size, connectivity, thresholds=below).best


def healthy_fp_threshold(
    scores: Any,
    budget: float,
    unit: str = "voxels",
    *,
    voxel_ml: Any = None,
    min_size: int = 8,
    connectivity: int = 26,
) -> float:
    """Lower the threshold from the highest score until a mask of all voxels at or above it exceeds the budget."""
    scans = _listed(scores)
    weights = np.broadcast_to(1.0 if voxel_ml is None else voxel_ml, len(scans))
    row = 2 if unit == "components" else 0
    for cut in np.unique(np.concatenate([np.asarray(scan, np.float32).ravel() for scan in scans]))[::-1]:
        below = np.nextafter(cut, np.float32(-np.inf))
        spent = [_kept(scan, None, below, min_size, connectivity)[row] for scan in scans]
        if float((weights * spent).sum()) / len(scans) > budget:
            return float(cut) + 0.0
    return -math.inf


def _listed(volumes: Any) -> list[Any]:
    return [volumes] if hasattr(volumes, "ndim") else list(volumes() if callable(volumes) else volumes)


def _kept(score: Any, truth: NDArray[Any] | None, threshold: Any, min_size: int, connectivity: int) -> list[int]:
    labels, count = label_components(np.asarray(score, np.float32) > threshold, connectivity, min_size)
    hits = 0 if truth is None else int(np.count_nonzero((labels > 0) & (np.asarray(truth) != 0)))
    return [int(np.count_nonzero(labels)), hits, count]
