"""Connected components by cupyx, numbered as the CPU numbers them; statistics by bincount."""

from __future__ import annotations

from typing import Any

import numpy as np


def namespace() -> Any:
    import cupy

    return cupy


def label_components(mask, connectivity, min_size):
    import cupy
    from cupyx.scipy import ndimage

    touching = cupy.asarray(_touching(connectivity))
    if not mask.size:
        return cupy.zeros(mask.shape, np.int32), 0
    found, count = ndimage.label(cupy.ascontiguousarray(mask, dtype=bool), structure=touching)
    flat = found.ravel()
    # One row per component on the host: the order is a matter of a few thousand numbers.
    inside = cupy.flatnonzero(flat)
    names, first = cupy.unique(flat[inside], return_index=True)
    names, first = cupy.asnumpy(names), cupy.asnumpy(inside[first])
    sizes = cupy.asnumpy(cupy.bincount(flat, minlength=int(count) + 1))[names]
    order = np.lexsort((first, -sizes))
    kept = names[order[sizes[order] >= min_size]]
    new = np.zeros(int(count) + 1, np.int32)
    new[kept] = np.arange(1, kept.size + 1)
    return cupy.asarray(new)[found], kept.size


def label_stats(labels, score):
    import cupy

    count = int(labels.max()) if labels.size else 0
    flat = labels.ravel()
    inside = cupy.flatnonzero(flat)
    names, values = flat[inside], score.ravel()[inside]
    voxels = cupy.bincount(names, minlength=count + 1)[1:]
    places = [
        cupy.bincount(names, weights=at.astype(np.float64), minlength=count + 1)[1:]
        for at in cupy.unravel_index(inside, labels.shape)
    ]
    total = cupy.bincount(names, weights=values.astype(np.float64), minlength=count + 1)[1:]
    peak = cupy.full(count + 1, -np.inf, np.float32)
    cupy.maximum.at(peak, names, values)
    return voxels.astype(np.int64), cupy.stack(places, 1), peak[1:], total


def _touching(connectivity: int) -> Any:
    distance = np.abs(np.indices((3, 3, 3)) - 1).sum(0)
    return distance <= {6: 1, 18: 2, 26: 3}[connectivity]
