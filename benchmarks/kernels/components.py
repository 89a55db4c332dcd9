"""DICE with small components removed at every threshold, and thresholds for healthy scans, against cc3d."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cc3d
import numpy as np

from benchmarks.kernels.harness import SHAPES, Row, brain, interleave
from uadtk.kernels import best_component_dice, component_sweep, healthy_fp_threshold

GRID = (np.arange(1001) * 0.001).astype(np.float32)
CROPPED, DUST, BISECTION = "loop of cc3d, cropped box", "loop of cc3d.dust", "bisection with cc3d.dust"
_SAMPLED = 50  # every 50th threshold of a loop is timed
_MIN = 8


def rows(quick: bool) -> Iterator[Row]:
    repeats = 1 if quick else 5
    for name in ["sq"] if quick else SHAPES:
        sample = brain(name)
        for connectivity in (26, 6):
            yield from _curve(name, sample.residual, sample.truth, connectivity, repeats)
    for name in ["sq"] if quick else SHAPES:
        yield from _exact(name, brain(name), repeats)
    sample = brain("sq" if quick else "mni")
    for budget in (0, 10, 100, 1000):
        yield _healthy(sample.residual, budget, repeats)


def first_call() -> None:
    score = np.zeros((3, 3, 3), np.float32)
    score[1, 1, 1] = 1
    best_component_dice(score, score > 0, 1)
    healthy_fp_threshold(score, 0)


def _curve(name: str, score: Any, truth: Any, connectivity: Any, repeats: int) -> Iterator[Row]:
    sweep = component_sweep(score, truth, _MIN, connectivity)
    box = tuple(slice(at.min(), at.max() + 1) for at in np.nonzero(score))
    inner, inner_truth = np.ascontiguousarray(score[box]), np.ascontiguousarray(truth[box])

    def labelled(threshold: Any) -> tuple[int, int, int]:
        labels = cc3d.connected_components(inner > threshold, connectivity=connectivity)
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        kept = sizes >= _MIN
        hits = np.bincount(labels[inner_truth], minlength=sizes.size)[kept].sum()
        return int(sizes[kept].sum()), int(hits), int(np.count_nonzero(kept))

    def dusted(threshold: Any) -> tuple[int, int]:
        kept = cc3d.dust(score > threshold, threshold=_MIN, connectivity=connectivity, in_place=True)
        return int(np.count_nonzero(kept)), int(np.count_nonzero(kept & truth))

    for k in range(0, 1001, 25):
        ours = (sweep.voxels[k], sweep.true_positives[k], sweep.components[k])
        assert ours == labelled(GRID[k])
        assert ours[:2] == dusted(GRID[k])
    assert best_component_dice(score, truth, _MIN, connectivity, step=0.001) == sweep.best

    medians = interleave(
        {
            "sweep": lambda: component_sweep(score, truth, _MIN, connectivity),
            "best": lambda: best_component_dice(score, truth, _MIN, connectivity, step=0.001),
            CROPPED: lambda: [labelled(threshold) for threshold in GRID[::_SAMPLED]],
            DUST: lambda: [dusted(threshold) for threshold in GRID[::_SAMPLED]],
        },
        repeats,
    )
    peers = {peer: medians[peer] * GRID.size / GRID[::_SAMPLED].size for peer in (CROPPED, DUST)}
    case = f"1001 thresholds, {connectivity}-connected, {name}"
    goals = {CROPPED: 80, DUST: 120} if connectivity == 26 else {CROPPED: 60, DUST: 90}
    yield Row("component_sweep", case, medians["sweep"], peers, goals, 40 if connectivity == 26 else 30)
    yield Row("best_component_dice", case, medians["best"], peers, 400, 150)


def _exact(name: str, sample: Any, repeats: int) -> Iterator[Row]:
    score, truth = sample.residual, sample.truth
    distinct = np.unique(score)
    medians = interleave(
        {
            "all": lambda: component_sweep(score, truth, _MIN, thresholds=distinct[distinct > 0]),
            "best": lambda: best_component_dice(score, truth, _MIN),
        },
        repeats,
    )
    yield Row("component_sweep", f"{distinct.size - 1} distinct thresholds, {name}", medians["all"])
    yield Row("best_component_dice", f"every distinct threshold, {name}", medians["best"])


def _healthy(score: Any, budget: int, repeats: int) -> Row:
    def bisection() -> float:
        """Over the distinct scores: exact, because the number of remaining voxels never rises with the threshold."""
        distinct = np.unique(score)
        low, high = -1, distinct.size - 1
        while high - low > 1:
            middle = (low + high) // 2
            kept = cc3d.dust(score > distinct[middle], threshold=_MIN, connectivity=26, in_place=True)
            low, high = (middle, high) if np.count_nonzero(kept) > budget else (low, middle)
        return float(distinct[high])

    assert healthy_fp_threshold(score, budget) == bisection()
    medians = interleave({"ours": lambda: healthy_fp_threshold(score, budget), BISECTION: bisection}, repeats)
    ours = medians.pop("ours")
    return Row("healthy_fp_threshold", f"{budget} voxels, one scan", ours, medians, 20, 10)
