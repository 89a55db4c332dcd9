"""Group norm of slices in channels-last format and its gradients, in two passes each, with sums in float64.

Slices are rows of channels, (B, rows, width): ``width`` is a multiple of the channels, as short rows have no vectors.
"""

from __future__ import annotations

import numpy as np

from uadtk.kernels._numba._jit import compiled


@compiled()
def normalise(x, y, weight, bias, groups, eps, middle, scale, start, stop):
    """Fill ``y`` for the slices from ``start`` to ``stop``, and mean and 1 / σ of each channel's group, (B, C)."""
    rows, width = x.shape[1:]
    channels = weight.size
    total, square = np.empty(width), np.empty(width)
    factor, shift = np.empty(width, np.float32), np.empty(width, np.float32)
    for b in range(start, stop):
        total[:], square[:] = 0, 0
        for r in range(rows):
            for i in range(width):
                value = np.float64(x[b, r, i])
                total[i] += value
                square[i] += value * value
        over_groups(total, channels, groups)
        over_groups(square, channels, groups)
        each = rows * (width // groups)
        for i in range(width):
            c = i % channels
            mean = total[i] / each
            inverse = 1 / np.sqrt(max(square[i] / each - mean * mean, 0.0) + eps)
            middle[b, c], scale[b, c] = mean, inverse
            factor[i] = inverse * weight[c]
            shift[i] = bias[c] - mean * inverse * weight[c]
        for r in range(rows):
            for i in range(width):
                y[b, r, i] = x[b, r, i] * factor[i] + shift[i]


@compiled()
def gradients(x, given, result, weight, groups, middle, scale, of_weight, of_bias, start, stop):
    """Fill ``result``, the gradient of ``x`` where ``given`` is that of ``y``, and those of weight and bias, (B, C)."""
    rows, width = x.shape[1:]
    channels = weight.size
    total, product, near = np.empty(width), np.empty(width), np.empty(width, np.float32)
    own, off, rest = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    for b in range(start, stop):
        total[:], product[:] = 0, 0
        for i in range(width):
            near[i] = middle[b, i % channels]
        for r in range(rows):
            for i in range(width):
                value = np.float64(given[b, r, i])
                total[i] += value
                product[i] += value * (x[b, r, i] - near[i])
        for i in range(channels, width):
            total[i % channels] += total[i]
            product[i % channels] += product[i]
        for c in range(channels):
            of_bias[b, c], of_weight[b, c] = total[c], product[c] * scale[b, c]
            total[c] *= weight[c]
            product[c] *= weight[c] * scale[b, c]
        over_groups(total[:channels], channels, groups)
        over_groups(product[:channels], channels, groups)
        each = rows * (width // groups)
        for i in range(width):
            c = i % channels
            own[i] = scale[b, c] * weight[c]
            off[i] = -product[c] / each * scale[b, c] * scale[b, c]
            rest[i] = -total[c] / each * scale[b, c]
        for r in range(rows):
            for i in range(width):
                result[b, r, i] = own[i] * given[b, r, i] + off[i] * (x[b, r, i] - near[i]) + rest[i]


@compiled()
def over_groups(values, channels, groups):
    """Replace each value by the sum over its group, in all repetitions of the channels."""
    each = channels // groups
    for group in range(groups):
        total = 0.0
        for first in range(group * each, values.size, channels):
            for i in range(first, first + each):
                total += values[i]
        for first in range(group * each, values.size, channels):
            values[first : first + each] = total
