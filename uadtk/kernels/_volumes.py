"""One volume or many, walked as often as a kernel needs, one in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from uadtk.kernels._dispatch import implementation


def pairs(module: str, score: Any, truth: Any = None, ndim: int | None = None) -> Iterator[tuple[ModuleType, Any, Any]]:
    """(implementation of ``module``, scores as float32, truth as uint8 0 or 1 or None), C-contiguous, volume by volume.

    Raises ValueError for scores and truths that differ in shape or number, or volumes without ``ndim`` axes; TypeError
    for an iterator.
    """
    truths = iter(_items("truth", truth)) if truth is not None else None
    for one_score in _items("score", score):
        one_truth = None
        if truths is not None:
            one_truth = next(truths, None)
            if one_truth is None:
                raise ValueError("fewer truths than scores")
            if np.shape(one_truth) != np.shape(one_score):
                raise ValueError(f"truth has shape {np.shape(one_truth)}, its score {np.shape(one_score)}")
        if ndim is not None and np.ndim(one_score) != ndim:
            raise ValueError(f"score must be {ndim}-D (z, y, x), got {np.ndim(one_score)} dimensions")
        kernels = implementation(module, one_score, one_truth)
        xp = kernels.namespace()
        if one_truth is not None:
            one_truth = xp.ascontiguousarray(one_truth, dtype=bool).view(np.uint8)
        yield kernels, xp.ascontiguousarray(one_score, dtype=np.float32), one_truth
    if truths is not None and next(truths, None) is not None:
        raise ValueError("more truths than scores")


def _items(name: str, source: Any) -> Iterable[Any]:
    if hasattr(source, "ndim"):
        return [source]
    items: Iterable[Any] = source() if callable(source) else source
    if not callable(source) and iter(items) is items:
        raise TypeError(f"{name} is an iterator and can be walked once: give a list, or a callable returning iterators")
    return items
