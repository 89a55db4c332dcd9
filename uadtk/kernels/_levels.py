"""Thresholds prepared for lookup: the level of a score.

The level of a score is the number of thresholds strictly below it, so ``score > thresholds[k]`` if and only if its
level is above k. Counts of voxels per level therefore contain the counts at every threshold.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_MOST_BINS = 1 << 18
_LARGEST = float(np.finfo(np.float32).max)


class Levels(NamedTuple):
    """Thresholds with a table of equal bins that gives the start of the binary search.

    A score falls into bin ``min(max((score - low) * scale, 0), len(first) - 1)``, in float32. Rounding preserves the
    order of scores, so thresholds in lower bins lie below the score and thresholds in higher bins do not: ``first``
    counts the former, and ``steps`` bisections locate the score among the thresholds of its own bin. Exact for any
    thresholds; the bins only make it fast.
    """

    thresholds: NDArray[np.float32]  # ascending, padded with +inf as far as the bisections may read
    first: NDArray[np.int32]
    low: np.float32
    scale: np.float32
    steps: int
    size: int  # number of thresholds; there are size + 1 levels

    @property
    def of_zero(self) -> int:
        return int(np.searchsorted(self.thresholds[: self.size], np.float32(0), "left"))


def prepare(thresholds: NDArray[np.float32]) -> Levels:
    """``thresholds``: strictly increasing, at least one; -inf is allowed."""
    low, high = (min(max(float(t), -_LARGEST), _LARGEST) for t in (thresholds[0], thresholds[-1]))
    bins = min(2 * thresholds.size, _MOST_BINS)
    scale = np.float32(min((bins - 1) / (high - low), 1e30) if high > low else 1)
    with np.errstate(over="ignore"):
        place = (thresholds - np.float32(low)) * scale
    own = np.clip(place, 0, np.float32(bins - 1)).astype(np.int32)
    first = np.searchsorted(own, np.arange(bins), "left").astype(np.int32)
    steps = int(np.bincount(own).max()).bit_length()
    padded = np.concatenate([thresholds, np.full(1 << steps, np.inf, np.float32)])
    return Levels(padded, first, np.float32(low), scale, steps, thresholds.size)


def grid(step: float) -> NDArray[np.float32]:
    """0, step, 2 step, ... up to 1, as float32."""
    if not 1e-6 <= step <= 1:
        raise ValueError(f"step must lie in [1e-6, 1], got {step}")
    return (np.arange(int(1 / step + 1e-9) + 1) * step).astype(np.float32)


def rising(thresholds: Any) -> NDArray[np.float32]:
    """Check the caller's thresholds and convert them to float32."""
    array = np.asarray(thresholds, dtype=np.float32)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all() or (np.diff(array) <= 0).any():
        raise ValueError("thresholds must be finite and strictly increasing in float32")
    return array


def just_below(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest float32 below each value: ``score > just_below(c)`` is ``score >= c``."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.nextafter(values, np.float32(-np.inf))


def at_least(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Turn counts per level (size + 1, ...) into counts above each threshold (size, ...)."""
    return np.flip(np.flip(counts, 0).cumsum(0), 0)[1:]
