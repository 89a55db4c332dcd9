"""Resampling of slices by a small sparse matrix per axis: what a dense product does, without the products of zeros."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from uadtk.kernels._numba._jit import compiled

Float = NDArray[np.float32]


def resampled(slices: Float, rows: Float, columns: Float) -> Float:
    """``rows @ slices @ columns.T`` for slices (n, y, x); few values of each row of both matrices are not 0."""
    found = np.empty((len(slices), len(rows), len(columns)), np.float32)
    _resample(np.ascontiguousarray(slices, np.float32), *_nonzero(rows), *_nonzero(columns), found)
    return found


def resampled_volume(volume: Float, planes: Float | None, rows: Float, columns: Float) -> Float:
    """The same along all axes of a volume (z, y, x), planes last; without ``planes``, of each of its planes."""
    found = resampled(volume, rows, columns)
    return found if planes is None else np.tensordot(planes, found, 1)


def _nonzero(matrix: Float) -> tuple[NDArray[np.int64], Float]:
    """Where the values that are not 0 begin in each row, and these values: (most of a row, rows), filled up with 0."""
    filled = matrix != 0
    first, last = filled.argmax(axis=1), matrix.shape[1] - filled[:, ::-1].argmax(axis=1)
    most = int(np.where(filled.any(axis=1), last - first, 1).max())
    first = np.minimum(first, matrix.shape[1] - most)
    return first, np.ascontiguousarray(np.take_along_axis(matrix, first[:, None] + np.arange(most), axis=1).T)


@compiled()
def _resample(slices, first_y, weights_y, first_x, weights_x, found):
    """Both axes at once for each row of the result, by way of one line along x that stays in the cache."""
    line = np.empty(slices.shape[2], np.float32)
    for k in range(slices.shape[0]):
        for i in range(first_y.size):
            line[:] = 0
            for n in range(weights_y.shape[0]):
                weight, row = weights_y[n, i], slices[k, first_y[i] + n]
                if weight != 0:
                    for x in range(line.size):
                        line[x] += weight * row[x]
            for j in range(first_x.size):
                found[k, i, j] = weights_x[0, j] * line[first_x[j]]
            for n in range(1, weights_x.shape[0]):
                for j in range(first_x.size):
                    found[k, i, j] += weights_x[n, j] * line[first_x[j] + n]
