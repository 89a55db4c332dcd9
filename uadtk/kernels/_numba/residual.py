"""Residual sums in tiles that stay in the L1 cache while all samples of a tile are added."""

from __future__ import annotations

from typing import Any

import numpy as np

from uadtk.kernels._numba._jit import compiled

_TILE = 1024


def namespace() -> Any:
    return np


@compiled()
def _add_tile(image, mask, batch, start, total, square, with_square, low):
    """Add the residuals of all rows of ``batch`` in the columns of one tile; True if one in the mask is not finite."""
    length = image.size
    invalid = False
    samples = batch.shape[0]
    fours = samples - samples % 4
    # Four samples at a time: a quarter of the memory traffic of the sums, which dominates that of the samples.
    for s in range(0, fours, 4):
        row0 = batch[s, start : start + length]
        row1 = batch[s + 1, start : start + length]
        row2 = batch[s + 2, start : start + length]
        row3 = batch[s + 3, start : start + length]
        for j in range(length):
            # Select, not multiply: values outside the mask may be NaN.
            keep = mask[j]
            d0 = np.float64(image[j]) - np.float64(row0[j]) if keep else 0.0
            d1 = np.float64(image[j]) - np.float64(row1[j]) if keep else 0.0
            d2 = np.float64(image[j]) - np.float64(row2[j]) if keep else 0.0
            d3 = np.float64(image[j]) - np.float64(row3[j]) if keep else 0.0
            invalid |= not (abs(d0) < np.inf and abs(d1) < np.inf and abs(d2) < np.inf and abs(d3) < np.inf)
            r0 = max(d0, low * d0)
            r1 = max(d1, low * d1)
            r2 = max(d2, low * d2)
            r3 = max(d3, low * d3)
            total[j] += (r0 + r1) + (r2 + r3)
            if with_square:
                square[j] += (r0 * r0 + r1 * r1) + (r2 * r2 + r3 * r3)
    for s in range(fours, samples):
        row = batch[s, start : start + length]
        for j in range(length):
            d = np.float64(image[j]) - np.float64(row[j]) if mask[j] else 0.0
            invalid |= not (abs(d) < np.inf)
            r = max(d, low * d)
            total[j] += r
            if with_square:
                square[j] += r * r
    return invalid


@compiled()
def _any(mask):
    found = False
    for j in range(mask.size):
        found |= mask[j]
    return found


@compiled()
def add(image, mask, batch, total, square, with_square, invalid, low):
    """image, mask, total, square (n,), batch (samples, n); ``square`` is read only ``with_square``."""
    for start in range(0, image.size, _TILE):
        tile = slice(start, min(start + _TILE, image.size))
        if _any(mask[tile]):
            found = _add_tile(image[tile], mask[tile], batch, start, total[tile], square[tile], with_square, low)
            invalid[0] |= found


def at_once(image, mask, batch, mean, variance, invalid, low):
    """image, mask, mean (n,), batch (samples, n), variance (n,) or (0,); both zero on entry."""
    if len(batch) == 1 and not variance.size:
        _one(image, mask, batch[0], mean, invalid, np.float32(low))
    else:
        _several(image, mask, batch, mean, variance, invalid, low)


@compiled()
def _one(image, mask, reconstruction, out, invalid, low):
    """The residual of a single reconstruction: no sums, so float32 rounds once as well."""
    for start in range(0, image.size, _TILE):
        stop = min(start + _TILE, image.size)
        x, keep, other, to = image[start:stop], mask[start:stop], reconstruction[start:stop], out[start:stop]
        if not _any(keep):
            continue
        wrong = False
        for j in range(x.size):
            d = x[j] - other[j] if keep[j] else np.float32(0)
            wrong |= not (abs(d) < np.inf)
            to[j] = max(d, low * d)
        invalid[0] |= wrong


@compiled()
def _several(image, mask, batch, mean, variance, invalid, low):
    samples = batch.shape[0]
    with_square = variance.size > 0
    totals = np.empty(_TILE, np.float64)
    squares = np.empty(_TILE, np.float64)
    for start in range(0, image.size, _TILE):
        stop = min(start + _TILE, image.size)
        if not _any(mask[start:stop]):
            continue
        totals[:] = 0
        squares[:] = 0
        found = _add_tile(image[start:stop], mask[start:stop], batch, start, totals, squares, with_square, low)
        invalid[0] |= found
        mean_tile = mean[start:stop]
        for j in range(stop - start):
            mean_tile[j] = totals[j] / samples
        if with_square:
            variance_tile = variance[start:stop]
            for j in range(stop - start):
                average = totals[j] / samples
                variance_tile[j] = max(squares[j] / samples - average * average, 0.0)


@compiled()
def finish(total, square, count_z, count_y, count_x, variance, out):
    """Mean or variance from the sums (z, y, x); a voxel's count is the sum of its three slices' counts."""
    for z in range(out.shape[0]):
        for y in range(out.shape[1]):
            of_row = count_z[z] + count_y[y]
            for x in range(out.shape[2]):
                count = max(of_row + count_x[x], 1)  # nothing added: the sums are 0
                mean = total[z, y, x] / count
                out[z, y, x] = max(square[z, y, x] / count - mean * mean, 0.0) if variance else mean
