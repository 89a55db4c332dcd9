"""Which slices make up each step of an epoch; decided by the seed and the epoch's number.

Models that know no labels see all slices once, in random order. A model that learns from labels may have a few hundred
annotated slices beside many thousands without labels: its batches hold equal parts of each source of labels that there
is, and of a labelled source one half (the larger, if odd) are slices with a lesion. An epoch is then as many batches as
take one pass through the largest source, and 50 at least, so that a few annotated scans are not judged on all held-out
ones after every handful of steps; what is used up comes round again, each time in another order.
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
    columns = [_going_round(rows, steps * share, rng).reshape(steps, share) for rows, share in parts]
    place = np.concatenate([(np.arange(share) + 0.5) / share for _, share in parts])
    mixed = np.concatenate(columns, axis=1)[:, np.argsort(place, kind="stable")]  # each part of a batch has all sources
    return list(mixed)


def _parts(slices: Slices, size: int) -> tuple[list[tuple[Rows, int]], int]:
    """Rows that are drawn from together, with their share of a batch; and how many batches an epoch has."""
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


def _going_round(rows: Rows, n: int, rng: np.random.Generator) -> Rows:
    """``n`` of ``rows``, each as often as any other or once more."""
    return np.concatenate([rng.permutation(rows) for _ in range(-(-n // len(rows)))])[:n]
