"""The part of volumes that is not empty."""

from __future__ import annotations

import mmap
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
    return tuple(_extent(found[axis]) for axis in range(3))


def occupied(*volumes: NDArray[np.float32] | NDArray[np.bool_]) -> Box:
    """The smallest box (z, y, x) outside which all volumes are 0, or the whole where they are 0 everywhere."""
    masks = [np.asarray(volume if volume.dtype == np.bool_ else volume != 0, bool) for volume in volumes]
    whole = [tuple(slice(0, n) for n in masks[0].shape)]
    boxes = [bounding_box(mask) for mask in masks if mask.any()] or whole
    z, y, x = (slice(min(s.start for s in sides), max(s.stop for s in sides)) for sides in zip(*boxes, strict=True))
    return z, y, x


def box_above(volume: NDArray[Any], threshold: float | np.float32) -> Box:
    """The same of what exceeds ``threshold``; only one plane of a large volume is compared at a time."""
    height, flat = np.zeros(len(volume), bool), np.zeros(volume.shape[1:], bool)
    for k, plane in enumerate(volume):
        above = plane > threshold
        height[k] = above.any()
        flat |= above
    lines = height, flat.any(axis=1), flat.any(axis=0)
    places = [np.flatnonzero(line) for line in lines]
    z, y, x = (_extent(at) if at.size else slice(0, n) for at, n in zip(places, volume.shape, strict=True))
    return z, y, x


def _extent(places: NDArray[np.intp]) -> slice:
    """From the first to the last."""
    return slice(int(places[0]), int(places[-1]) + 1)


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
    """Copy into a part of ``zeros``; where rows are as long as half a page, without those that are empty."""
    if zeroed.strides[-2] < mmap.PAGESIZE // 2:
        zeroed[...] = values
        return
    rows = values.any(axis=-1)
    zeroed[rows] = values[rows]
