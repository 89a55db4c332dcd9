"""The definitions, by SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from uadtk.kernels.labels import LabelStats


def label_components(mask: Any, connectivity: int = 26, min_size: int = 1) -> tuple[Any, int]:
    """As :func:`uadtk.kernels.label_components`, for valid NumPy arrays."""
    touching = ndimage.generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity])
    found, _ = ndimage.label(np.asarray(mask) != 0, touching)
    names, first, sizes = np.unique(found, return_index=True, return_counts=True)
    rows = sorted((-size, at, name) for name, at, size in zip(names, first, sizes, strict=True) if name)
    kept = [name for size, _, name in rows if -size >= min_size]
    labels = np.zeros(found.shape, np.int32)
    for number, name in enumerate(kept, start=1):
        labels[found == name] = number
    return labels, len(kept)


def label_stats(labels: Any, score: Any) -> LabelStats:
    rows = []
    for number in range(1, int(np.max(labels, initial=0)) + 1):
        places = np.argwhere(labels == number)
        values = np.asarray(score, np.float32)[labels == number]
        if len(places):
            rows.append((len(places), places.mean(0), values.max(), values.astype(np.float64).mean()))
        else:
            rows.append((0, np.full(3, np.nan), np.float32(np.nan), np.nan))
    return LabelStats(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.float64).reshape(-1, 3),
        np.array([row[2] for row in rows], np.float32),
        np.array([row[3] for row in rows], np.float64),
    )
