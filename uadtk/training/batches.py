"""The slices of each step of an epoch, determined by the seed and the epoch number.

Unsupervised models see all slices once, in random order. A supervised model may have a few hundred annotated slices and
thousands without labels: its batches hold equal parts from each label source, and half of a labelled source's part (the
larger half, if odd) are slices with a lesion. An epoch is then one pass through the largest source, but at least 50
steps, so that validation does not run after every handful of steps. Smaller sources repeat, reshuffled each time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from uadtk.core.errors import UsageError
from uadtk.training.slices import Slices

Rows = NDArray[np.intp]
LEAST_STEPS = 50


def steps_of_epoch(slices: Slices, batch: int, supervised: bool, seed: int, epoch: int) -> list[Rows]:
    """Rows of ``slices`` for each step. The remainder of an uneven division is dropped.

    Raises
    ------
    UsageError
        ``batch`` is too small to hold two slices of each source.
    """
    size, rng = min(batch, len(slices)), np.random.default_rng([seed, epoch])
    if not supervised:
        order = rng.permutation(len(slices))
        return [order[i : i + size] for i in range(0, len(order) - size + 1, size)]
    parts, steps = _parts(slices, size)
    columns = [_cycled(rows, steps * share, rng).reshape(steps, share) for rows, share in parts]
    place = np.concatenate([(np.arange(share) + 0.5) / share for _, share in parts])
    mixed = np.concatenate(columns, axis=1)[:, np.argsort(place, kind="stable")]  # every part has all sources
    return list(mixed)


def _parts(slices: Slices, size: int) -> tuple[list[tuple[Rows, int]], int]:
    """Groups of rows to sample from, each with its slices per batch; and the number of batches in an epoch."""
    source, lesion = slices.about[:, 1], slices.about[:, 2] > 0
    sources = np.unique(source)
    if size < 2 * len(sources):
        raise UsageError(f"batches of {size} slices are too few for {len(sources)} sources of labels", "--batch")
    parts, steps = [], LEAST_STEPS
    for number, one in enumerate(sources):
        share = len(range(number, size, len(sources)))
        steps = max(steps, int((source == one).sum()) // share)
        halves = [np.flatnonzero((source == one) & kind) for kind in (lesion, ~lesion)]
        halves = [half for half in halves if len(half)]
        parts += [(half, len(range(i, share, len(halves)))) for i, half in enumerate(halves)]
    return parts, steps


def _cycled(rows: Rows, n: int, rng: np.random.Generator) -> Rows:
    """``n`` of ``rows``, repeated evenly: counts differ by at most one."""
    return np.concatenate([rng.permutation(rows) for _ in range(-(-n // len(rows)))])[:n]
