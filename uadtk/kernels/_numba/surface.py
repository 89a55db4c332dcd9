"""The sums of a robust polynomial fit: one pass over the samples in blocks that stay in the cache."""

from __future__ import annotations

import numpy as np

from uadtk.kernels._numba._jit import compiled

_BLOCK = 256
_LOOSE = {"reassoc", "contract", "nsz"}  # sums in any order, which is what vectors need


@compiled(fastmath=_LOOSE)
def normal_equations(places, values, exponents, surface, dark, bright):
    """The weighted sums of t t' and t v over samples with values v, t being the terms of a polynomial there.

    ``places`` (3, n); a term is x^a y^b z^c for a row (a, b, c) of ``exponents``. Weights are Tukey's biweight of the
    distance from ``surface``, the coefficients: 0 from ``dark`` below it and ``bright`` above it. Sums over a block
    are float32, those over blocks float64.
    """
    count, samples, degree = len(exponents), values.size, exponents.sum(axis=1).max()
    size = 2 * degree + 1
    # Products of two terms are terms of twice the degree, of which there are less than half as many as products.
    moments, sums = np.zeros((size, size, size)), np.zeros((size, size, size))
    powers = np.ones((3, size, _BLOCK), np.float32)
    part, weight = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    value, off = np.zeros(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    below, above = np.float32(1 / dark), np.float32(1 / bright)
    for start in range(0, samples, _BLOCK):
        filled = min(_BLOCK, samples - start)
        for axis in range(3):
            at = places[axis, start : start + filled]
            for power in range(1, size):
                last, line = powers[axis, power - 1], powers[axis, power]
                for n in range(filled):
                    line[n] = last[n] * at[n]
        value[:filled], off[:] = values[start : start + filled], 0
        for i in range(count):
            x, y, z = powers[0, exponents[i, 0]], powers[1, exponents[i, 1]], powers[2, exponents[i, 2]]
            coefficient = np.float32(surface[i])
            for n in range(_BLOCK):
                off[n] += coefficient * x[n] * y[n] * z[n]
        for n in range(_BLOCK):
            away = value[n] - off[n]
            away *= below if away < 0 else above
            near = max(np.float32(1) - away * away, np.float32(0))
            weight[n] = near * near
        weight[filled:] = 0
        for a in range(size):
            for b in range(size - a):
                x, y = powers[0, a], powers[1, b]
                for n in range(_BLOCK):
                    part[n] = weight[n] * x[n] * y[n]
                for c in range(size - a - b):
                    moments[a, b, c] += product(part, powers[2, c])
                if a + b <= degree:
                    for n in range(_BLOCK):
                        part[n] *= value[n]
                    for c in range(degree + 1 - a - b):
                        sums[a, b, c] += product(part, powers[2, c])
    square, right = np.empty((count, count)), np.empty(count)
    for i in range(count):
        right[i] = sums[exponents[i, 0], exponents[i, 1], exponents[i, 2]]
        for j in range(count):
            a, b, c = exponents[i] + exponents[j]
            square[i, j] = moments[a, b, c]
    return square, right


@compiled(fastmath=_LOOSE)
def product(first, second):
    total = np.float32(0)
    for n in range(_BLOCK):
        total += first[n] * second[n]
    return total
