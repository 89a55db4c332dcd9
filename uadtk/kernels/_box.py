"""The part of volumes that is not empty."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

Box = tuple[slice, slice, slice]
LARGE = 1 << 27  # bytes


def occupied(*volumes: NDArray[np.float32] | NDArray[np.bool_]) -> Box:
    """The smallest box (z, y, x) outside which all volumes are 0, or the whole where they are 0 everywhere."""
    lines = [_lines(volume if volume.dtype == np.bool_ else volume != 0) for volume in volumes]
    z, y, x = (_extent(np.logical_or.reduce(along)) for along in zip(*lines, strict=True))
    return z, y, x


def _lines(filled: Any) -> tuple[NDArray[np.bool_], ...]:
    """Whether anything is there, along each axis."""
    plane = filled.any(axis=0)
    return filled.any(axis=(1, 2)), plane.any(axis=1), plane.any(axis=0)


def _extent(line: NDArray[np.bool_]) -> slice:
    """From the first True to the last; all of it without one."""
    if not line.any():
        return slice(0, len(line))
    return slice(int(line.argmax()), len(line) - int(line[::-1].argmax()))


def zeros(shape: tuple[int, ...], kind: type[np.generic]) -> NDArray[Any]:
    """``np.zeros``. Of a large array only those parts take memory that are written to, however memory is allocated."""
    dtype = np.dtype(kind)
    size = int(np.prod(shape)) * dtype.itemsize
    if size < LARGE or not hasattr(mmap, "MAP_PRIVATE"):  # Windows
        return np.zeros(shape, dtype)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(pages, dtype).reshape(shape)
