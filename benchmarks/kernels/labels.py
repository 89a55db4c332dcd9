"""Components by size and their statistics, against cc3d with the code a user would add."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cc3d
import numpy as np
from scipy import ndimage

from benchmarks.kernels.harness import SHAPES, Row, brain, interleave
from uadtk.kernels import label_components, label_stats

LOOP, STATISTICS, SCIPY = "loop over labels", "cc3d.statistics and loop", "scipy.ndimage, four calls"
SORTED, DUST = "cc3d and np.unique", "cc3d.dust and cc3d"
_MIN = 8


def rows(quick: bool) -> Iterator[Row]:
    repeats = 3 if quick else 7
    for name in ["sq"] if quick else SHAPES:
        sample = brain(name)
        mask = sample.residual > 0.1
        yield _components(name, mask, repeats)
        yield _stats(name, label_components(mask, 26, _MIN)[0], sample.residual, 3)


def first_call() -> None:
    labels, _ = label_components(np.ones((2, 2, 2)))
    label_stats(labels, np.ones((2, 2, 2)))


def _components(name: str, mask: Any, repeats: int) -> Row:
    def by_unique() -> Any:
        labels = cc3d.connected_components(mask, connectivity=26)
        names, sizes = np.unique(labels[labels > 0], return_counts=True)
        order = np.argsort(-sizes, kind="stable")
        kept = names[order][sizes[order] >= _MIN]
        new = np.zeros(names.size + 1, np.int32)
        new[kept] = np.arange(1, kept.size + 1)
        return new[labels]

    def by_dust() -> None:
        cc3d.connected_components(cc3d.dust(mask, threshold=_MIN, connectivity=26), connectivity=26)

    labels, count = label_components(mask, 26, _MIN)
    theirs = by_unique()
    assert np.array_equal(labels, theirs)
    medians = interleave({"ours": lambda: label_components(mask, 26, _MIN), SORTED: by_unique, DUST: by_dust}, repeats)
    return Row("label_components", f"{count} components, {name}", medians.pop("ours"), medians)


def _stats(name: str, labels: Any, score: Any, repeats: int) -> Row:
    unsigned = labels.view(np.uint32)

    def loop() -> Any:
        rows = []
        for number in range(1, int(labels.max()) + 1):
            inside = labels == number
            values = score[inside]
            rows.append((values.size, np.argwhere(inside).mean(0), values.max(), values.mean(dtype=np.float64)))
        return rows

    def statistics() -> Any:
        found = cc3d.statistics(unsigned)
        rows = []
        for number, box in enumerate(found["bounding_boxes"][1:], start=1):
            values = score[box][labels[box] == number]
            rows.append((values.size, found["centroids"][number], values.max(), values.mean(dtype=np.float64)))
        return rows

    def scipy() -> None:
        numbers = range(1, int(labels.max()) + 1)
        ndimage.sum(labels > 0, labels, numbers)
        ndimage.center_of_mass(labels > 0, labels, numbers)
        ndimage.maximum(score, labels, numbers)
        ndimage.mean(score, labels, numbers)

    stats = label_stats(labels, score)
    for theirs in (loop(), statistics()) if name == "sq" else (statistics(),):
        for row, size, centroid, peak, mean in zip(theirs, *stats, strict=True):
            assert row[0] == size
            assert row[2] == peak
            assert abs(row[3] - mean) < 1e-9
            assert np.allclose(row[1], centroid, atol=1e-3)  # cc3d has lower precision
    functions = {"ours": lambda: label_stats(labels, score), STATISTICS: statistics, SCIPY: scipy}
    if name == "sq":  # one pass over the volume per label
        functions[LOOP] = loop
    medians = interleave(functions, repeats)
    return Row("label_stats", f"{len(stats.voxels)} labels, {name}", medians.pop("ours"), medians, 3, 1.5)
