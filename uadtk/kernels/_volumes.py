"""Iterate over one volume or many, as often as a kernel needs, with one in memory at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from uadtk.kernels._dispatch import implementation


def pairs(
    module: str,
    values: Any,
    marks: Any = None,
    *,
    ndim: int | None = None,
    names: tuple[str, str] = ("score", "truth"),
    one_mark_for_all: bool = False,
) -> Iterator[tuple[ModuleType, Any, Any]]:
    """(implementation of ``module``, values as float32, marks as uint8 0 or 1 or None), C-contiguous, volume by volume.

    Raises ValueError for values and marks that differ in shape or number, or volumes without ``ndim`` axes; TypeError
    for an iterator. ``names`` are used in error messages; with ``one_mark_for_all``, ``marks`` is a single array.
    """
    name, mark_name = names
    marks_left = None
    if marks is not None:
        marks_left = itertools.repeat(marks) if one_mark_for_all else iter(_items(mark_name, marks))
    for one in _items(name, values):
        mark = None
        if marks_left is not None:
            mark = next(marks_left, None)
            if mark is None:
                raise ValueError(f"fewer {mark_name}s than {name}s")
            if np.shape(mark) != np.shape(one):
                raise ValueError(f"{mark_name} has shape {np.shape(mark)}, its {name} has shape {np.shape(one)}")
        if ndim is not None and np.ndim(one) != ndim:
            raise ValueError(f"{name} must be {ndim}-D (z, y, x), got {np.ndim(one)} dimensions")
        kernels = implementation(module, one, mark)
        xp = kernels.namespace()
        if mark is not None:
            mark = xp.ascontiguousarray(mark, dtype=bool).view(np.uint8)
        yield kernels, xp.ascontiguousarray(one, dtype=np.float32), mark
    if marks_left is not None and not one_mark_for_all and next(marks_left, None) is not None:
        raise ValueError(f"more {mark_name}s than {name}s")


def _items(name: str, source: Any) -> Iterable[Any]:
    if hasattr(source, "ndim"):
        return [source]
    items: Iterable[Any] = source() if callable(source) else source
    if not callable(source) and iter(items) is items:
        raise TypeError(
            f"{name} is an iterator, which can be read only once: pass a list, or a callable that returns iterators"
        )
    return items
