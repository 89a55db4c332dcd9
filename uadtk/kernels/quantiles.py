"""Exact quantiles of a cohort that does not fit into memory.

Radix selection in two passes over the data: the first counts the upper 16 bits of every value, the second the lower 16
bits of the values that share their upper half with one of the two order statistics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from uadtk.kernels._dispatch import is_cupy
from uadtk.kernels._volumes import pairs

_BINS = 1 << 16
_FEW = 1 << 17  # up to this many voxels numpy.quantile is faster: it has no tables of 65,536 counters to clear and sum
_INFINITE = 0x7F80  # upper half of inf; NaN lies above it
_NOT_FINITE, _NO_VOXEL = "volumes hold NaN or infinite voxels", "no voxels to take a quantile of"
# Upper halves in ascending order of their floats: negative floats are stored as magnitudes and run backwards.
RISING = np.r_[_BINS - 1 : _BINS // 2 - 1 : -1, 0 : _BINS // 2]


def quantile(
    volumes: Iterable[Any] | Callable[[], Iterable[Any]],
    q: float,
    *,
    masks: Iterable[Any] | Callable[[], Iterable[Any]] | None = None,
) -> float:
    """The ``q``-quantile of all voxels of all volumes, exactly as ``numpy.quantile`` of their concatenation.

    Parameters
    ----------
    volumes : array, sequence of arrays, re-iterable, or callable that returns a fresh iterator
        Read twice, one array in memory at a time: arrays of any shape, strides and sign, converted to float32. An
        array is one volume. A callable can load from disk: ``lambda: (read(path) for path in paths)``.
    q : float
        In [0, 1]; 0.98 for the 98th percentile.
    masks : like ``volumes``, optional
        Arrays of the volumes' shapes, in the same order; only non-zero voxels count. A single array applies to all.

    Returns
    -------
    float
        Linear interpolation between the two nearest order statistics, bit-equal to ``numpy.quantile(values, q)`` on
        float32 values. A zero is always +0.0. Memory besides the volume being read: about 1 MB, whatever the cohort.

    Raises
    ------
    ValueError
        ``q`` outside [0, 1], no voxels, NaN or infinite voxels (inside the masks), masks of another shape or number,
        volumes that differ between the two passes.
    TypeError
        An iterator, which can be read only once; some arrays on the host and some on the device.

    Examples
    --------
    >>> import numpy as np
    >>> quantile([np.arange(5), np.arange(5, 11)], 0.5)
    5.0
    """
    if not 0 <= q <= 1:
        raise ValueError(f"q must lie in [0, 1], got {q}")
    if _are_few(volumes):
        return _of_few(volumes, q, masks)
    upper = np.zeros((2, _BINS), np.int64)
    for kernels, values, mask in _walk(volumes, masks):
        kernels.upper_halves(values, mask, upper)
    counts = upper.sum(0)
    if counts[_INFINITE : _BINS // 2].any() or counts[_INFINITE + _BINS // 2 :].any():
        raise ValueError(_NOT_FINITE)
    cumulative = counts[RISING].cumsum()
    n = int(cumulative[-1])
    if n == 0:
        raise ValueError(_NO_VOXEL)

    position = (n - 1) * float(q)
    ranks = math.floor(position), min(math.floor(position) + 1, n - 1)
    places = np.searchsorted(cumulative, ranks, "right")
    halves = RISING[places]
    lower = np.zeros((2, _BINS), np.int64)
    for kernels, values, mask in _walk(volumes, masks):
        kernels.lower_halves(values, mask, np.uint32(halves[0]), np.uint32(halves[1]), lower)
    if not np.array_equal(lower.sum(1), counts[halves]):
        raise ValueError("volumes changed between the first and the second pass")

    below = [int(rank - (cumulative[place] - counts[RISING[place]])) for rank, place in zip(ranks, places, strict=True)]
    low, high = (_value(int(half), rank, count) for half, rank, count in zip(halves, below, lower, strict=True))
    # numpy's interpolation: weights in float64, arithmetic in float32, from the nearer end.
    weight = position - ranks[0]
    step = high - low
    with np.errstate(over="ignore", invalid="ignore"):
        result = high - step * (1 - weight) if weight >= 0.5 else low + step * weight
    return float(result) + 0.0


def _value(half: int, rank: int, lower: Any) -> np.float32:
    """The float32 of rank ``rank`` among those with this upper half."""
    negative = half >= _BINS // 2
    ordered = lower[::-1] if negative else lower
    place = int(np.searchsorted(ordered.cumsum(), rank, "right"))
    bits = half << 16 | (_BINS - 1 - place if negative else place)
    return np.float32(np.uint32(bits).view(np.float32))


def _are_few(volumes: Any) -> bool:
    """True for host arrays that are all in memory and together small."""
    at_hand = [volumes] if hasattr(volumes, "ndim") else volumes
    return isinstance(at_hand, list | tuple) and sum(map(np.size, at_hand)) <= _FEW and not any(map(is_cupy, at_hand))


def _of_few(volumes: Any, q: float, masks: Any) -> float:
    chosen = [bits if mask is None else bits[mask.view(bool)] for _, bits, mask in _walk(volumes, masks)]
    values = np.concatenate([np.zeros(0, np.uint32), *chosen]).view(np.float32)
    if not np.isfinite(values).all():
        raise ValueError(_NOT_FINITE)
    if not values.size:
        raise ValueError(_NO_VOXEL)
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.quantile(values, float(q))) + 0.0


def _walk(volumes: Any, masks: Any) -> Iterator[tuple[Any, Any, Any]]:
    """(implementation, bits of the values (n,), mask as uint8 0 or 1 (n,) or None) of each volume."""
    shared = hasattr(masks, "ndim")
    for kernels, values, mask in pairs("quantiles", volumes, masks, names=("volume", "mask"), one_mark_for_all=shared):
        yield kernels, values.reshape(-1).view(np.uint32), None if mask is None else mask.reshape(-1)
