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
    count, samples = len(exponents), values.size
    square, right = np.zeros((count, count)), np.zeros(count)
    powers = np.ones((3, int(exponents.max()) + 1, _BLOCK), np.float32)
    terms, weighted = np.empty((count, _BLOCK), np.float32), np.empty(_BLOCK, np.float32)
    weight, value, off = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    below, above = np.float32(1 / dark), np.float32(1 / bright)
    for start in range(0, samples, _BLOCK):
        size = min(_BLOCK, samples - start)
        for axis in range(3):
            for power in range(1, powers.shape[1]):
                for n in range(size):
                    powers[axis, power, n] = powers[axis, power - 1, n] * places[axis, start + n]
        value[:size], value[size:], off[:] = values[start : start + size], 0, 0
        for i in range(count):
            x, y, z = powers[0, exponents[i, 0]], powers[1, exponents[i, 1]], powers[2, exponents[i, 2]]
            coefficient = np.float32(surface[i])
            for n in range(_BLOCK):
                terms[i, n] = x[n] * y[n] * z[n]
                off[n] += coefficient * terms[i, n]
        for n in range(_BLOCK):
            away = value[n] - off[n]
            away *= below if away < 0 else above
            near = max(np.float32(1) - away * away, np.float32(0))
            weight[n] = near * near
        weight[size:] = 0
        for i in range(count):
            for n in range(_BLOCK):
                weighted[n] = weight[n] * terms[i, n]
            right[i] += product(weighted, value)
            for j in range(i, count):
                square[i, j] += product(weighted, terms[j])
    for i in range(count):
        for j in range(i):
            square[i, j] = square[j, i]
    return square, right


@compiled(fastmath=_LOOSE)
def product(first, second):
    total = np.float32(0)
    for n in range(_BLOCK):
        total += first[n] * second[n]
    return total
