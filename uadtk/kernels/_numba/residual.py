"""Residual sums in tiles that stay in the first-level cache while all N samples of a tile go by."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_TILE = 1024
_LARGEST = np.float32(np.finfo(np.float32).max)
_ZERO = np.float32(0)


@njit(nogil=True, cache=True)
def _add_tile(image, mask, batch, start, total, square, low):
    """Add the residuals of all rows of ``batch``, columns from ``start``; True if one inside the mask is not finite.

    Sums over four samples at a time: a fourth of the traffic to ``total`` and ``square``, which are float64.
    """
    length = image.size
    bad = False
    samples = batch.shape[0]
    fours = samples - samples % 4
    for s in range(0, fours, 4):
        a = batch[s, start : start + length]
        b = batch[s + 1, start : start + length]
        c = batch[s + 2, start : start + length]
        d = batch[s + 3, start : start + length]
        for j in range(length):
            keep, x = mask[j] != 0, image[j]
            # Select, not multiply: NaN outside the mask must not get through.
            p = x - a[j] if keep else _ZERO
            q = x - b[j] if keep else _ZERO
            u = x - c[j] if keep else _ZERO
            v = x - d[j] if keep else _ZERO
            bad |= not (abs(p) <= _LARGEST and abs(q) <= _LARGEST and abs(u) <= _LARGEST and abs(v) <= _LARGEST)
            p, q, u, v = max(p, low * p), max(q, low * q), max(u, low * u), max(v, low * v)
            p, q, u, v = np.float64(p), np.float64(q), np.float64(u), np.float64(v)
            total[j] += (p + q) + (u + v)
            if square is not None:
                square[j] += (p * p + q * q) + (u * u + v * v)
    for s in range(fours, samples):
        a = batch[s, start : start + length]
        for j in range(length):
            p = image[j] - a[j] if mask[j] != 0 else _ZERO
            bad |= not (abs(p) <= _LARGEST)
            r = np.float64(max(p, low * p))
            total[j] += r
            if square is not None:
                square[j] += r * r
    return bad


@njit(nogil=True, cache=True)
def add(image, mask, batch, total, square, low):
    bad = False
    for start in range(0, image.size, _TILE):
        stop = min(start + _TILE, image.size)
        if not mask[start:stop].any():
            continue
        if square is None:
            bad |= _add_tile(image[start:stop], mask[start:stop], batch, start, total[start:stop], None, low)
        else:
            bad |= _add_tile(
                image[start:stop], mask[start:stop], batch, start, total[start:stop], square[start:stop], low
            )
    return bad


@njit(nogil=True, cache=True)
def at_once(image, mask, batch, mean, variance, low):
    bad = False
    n = batch.shape[0]
    total = np.empty(_TILE, np.float64)
    square = np.empty(_TILE, np.float64)
    for start in range(0, image.size, _TILE):
        stop = min(start + _TILE, image.size)
        if not mask[start:stop].any():
            continue
        total[:]=0; square[:]=0
        if variance is None:
            bad |= _add_tile(image[start:stop], mask[start:stop], batch, start, total, None, low)
        else:
            bad |= _add_tile(image[start:stop], mask[start:stop], batch, start, total, square, low)
        for j in range(stop - start):
            m = total[j] / n
            mean[start + j] = m
            if variance is not None:
                variance[start + j] = max(square[j] / n - m * m, 0.0)
    return bad
