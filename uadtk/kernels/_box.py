"""The part of volumes that is not empty."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Box = tuple[slice, slice, slice]
LARGE = 1 << 26  # bytes


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The extent of a non-empty mask along each of its three axes."""
    order = sorted(range(3), key=lambda axis: -abs(mask.strides[axis]))
    slow = mask.transpose(order)
    plane = np.asarray(slow.any(axis=0))  # whole planes at once, which is much faster than along lines
    second, last = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
    first = np.flatnonzero(slow[:, second[0] : second[-1] + 1].any(axis=(1, 2)))
    found = dict(zip(order, (first, second, last), strict=True))
    return tuple(slice(int(found[axis][0]), int(found[axis][-1]) + 1) for axis in range(3))


def occupied(*volumes: Iterable[NDArray[Any]]) -> Box:
    """The smallest box (z, y, x) outside which all volumes are 0, or the whole where they are 0 everywhere.

    Only one plane of a volume is compared at a time. It may be given as planes: ``(plane > 0.5 for plane in score)``.
    """
    heights, flats = zip(*map(_shadows, volumes), strict=True)
    flat = np.logical_or.reduce(flats)
    lines = np.logical_or.reduce(heights), flat.any(axis=1), flat.any(axis=0)
    z, y, x = map(_extent, lines) if flat.any() else (slice(0, len(line)) for line in lines)
    return z, y, x


def _shadows(volume: Iterable[NDArray[Any]]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of what is not 0: along z, and on the plane."""
    height, flat = [], np.zeros(getattr(volume, "shape", ())[1:], bool)
    for plane in volume:
        filled = plane if plane.dtype == np.bool_ else plane != 0
        height.append(bool(filled.any()))
        flat = flat | filled
    return np.array(height, bool), flat


def _extent(line: NDArray[np.bool_]) -> slice:
    at = np.flatnonzero(line)
    return slice(int(at[0]), int(at[-1]) + 1)


def zeros(shape: tuple[int, ...], kind: type[np.generic]) -> NDArray[Any]:
    """``np.zeros``. Of a large array only those parts take memory that are written to, however memory is allocated.

    ``fill`` writes to as few as possible.
    """
    dtype = np.dtype(kind)
    size = int(np.prod(shape)) * dtype.itemsize
    if size < LARGE or not hasattr(mmap, "MAP_PRIVATE"):  # Windows
        return np.zeros(shape, dtype)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(pages, dtype).reshape(shape)


def fill(zeroed: NDArray[Any], values: NDArray[Any]) -> None:
    """Copy ``values`` into an array of zeros, without rows that are 0."""
    rows = values.any(axis=-1)
    zeroed[rows] = values[rows]
