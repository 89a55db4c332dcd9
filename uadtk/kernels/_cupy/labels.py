"""Connected components by cupyx, numbered as on the CPU; statistics by bincount."""

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
    # Sorted on the host: one row per component is only a few thousand numbers.
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
    from cupyx.scipy import ndimage

    count = int(labels.max()) if labels.size else 0
    if count == 0:
        return cupy.zeros(0, np.int64), cupy.zeros((0, 3)), cupy.zeros(0, np.float32), cupy.zeros(0)
    inside = cupy.flatnonzero(labels)
    names, values = labels.ravel()[inside], score.ravel()[inside]

    def sums(weights):
        return cupy.bincount(names, weights=weights.astype(np.float64), minlength=count + 1)[1:]

    voxels = cupy.bincount(names, minlength=count + 1)[1:].astype(np.int64)
    places = cupy.stack([sums(at) for at in cupy.unravel_index(inside, labels.shape)], 1)
    peak = cupy.asarray(ndimage.maximum(values, names, cupy.arange(1, count + 1))).astype(np.float32)
    return voxels, places, peak, sums(values)


def _touching(connectivity: int) -> Any:
    distance = np.abs(np.indices((3, 3, 3)) - 1).sum(0)
    return distance <= {6: 1, 18: 2, 26: 3}[connectivity]
