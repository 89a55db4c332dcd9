"""Smooth random fields, used for deformation, texture, bias and irregular lesion borders."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]


def smooth_field(rng: np.random.Generator, shape: tuple[int, ...], cell: tuple[float, ...]) -> Field:
    """Gaussian field of unit variance: normal numbers on a coarse grid, interpolated by cubic B-splines.

    ``cell`` is the coarse grid's spacing in voxels, per axis. Plain elementwise sums (no BLAS), so that the result
    depends only on the generator.
    """
    knots = [int(np.ceil((n - 1) / c)) + 4 for n, c in zip(shape, cell, strict=True)]
    field = rng.standard_normal(knots, dtype=np.float32)
    for axis, (n, c) in enumerate(zip(shape, cell, strict=True)):
        field = _spline_along(field, axis, np.asarray((np.arange(n) + rng.random() * c) / c))
    return field


def _spline_along(coarse: Field, axis: int, at: NDArray[np.floating[Any]]) -> Field:
    """Cubic B-spline weights of four neighbours, scaled to unit variance on average."""
    first = at.astype(np.intp)
    t = at - first
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / 6
    weights /= np.sqrt((weights**2).sum(axis=0))
    along = [1] * coarse.ndim
    along[axis] = len(at)
    columns = weights.astype(np.float32).reshape(4, *along)
    total = np.take(coarse, first, axis) * columns[0]
    for k in (1, 2, 3):
        total += np.take(coarse, first + k, axis) * columns[k]
    return np.asarray(total)
