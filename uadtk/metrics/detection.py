"""Sensitivity for planted lesions by size, contrast and place, with intervals that respect the subjects.

Implants of one subject share its scan and are not independent. An interval is Wilson's (1927), with the number of
implants divided by the *design effect* (Kish 1965): the variance between subjects over that of independent implants,
pooled over all cells of a table, since one cell holds too few to tell. Unlike a bootstrap over subjects, it is not of
width 0 where everything, or nothing, is found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RELIABLE = 0.8  # sensitivity from which on a size counts as found
ALL = "all"
PLACES = ("rim", "deep", "base")
_Z = 1.959964


@dataclass(frozen=True)
class Planted:
    """An implant and what the model made of it.

    ``contrast``: relative to the tissue around it, 0.5 is +50 %. ``volume_ml`` is what was planted, partial voxels as
    their share; ``voxels``, those of which it fills at least half as much as of the fullest. ``overlap``: the share of
    them that findings cover. ``peak``: the highest score in them.
    """

    subject: str
    size_mm: float
    contrast: float
    place: str
    volume_ml: float
    voxels: int
    found: bool
    overlap: float
    peak: float
    centre_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Sensitivity:
    """Of one size and contrast, in one of ``PLACES`` or in ``ALL``. NaN without implants."""

    size_mm: float
    contrast: float
    place: str
    planted: int
    found: int
    subjects: int
    low: float
    high: float

    @property
    def share(self) -> float:
        return self.found / self.planted if self.planted else math.nan


def sensitivities(planted: Sequence[Planted], sizes: Sequence[float], contrasts: Sequence[float]) -> list[Sensitivity]:
    """A cell for every place (``ALL`` first), contrast and size."""
    subjects = {name: place for place, name in enumerate(dict.fromkeys(one.subject for one in planted))}
    ways = [(contrast, size) for contrast in contrasts for size in sizes]
    cells = []
    for place in (ALL, *PLACES):
        tally = np.zeros((len(ways), max(1, len(subjects)), 2))
        for one in planted:
            if place in (ALL, one.place):
                tally[ways.index((one.contrast, one.size_mm)), subjects[one.subject]] += 1, one.found
        effect = design_effect(tally)
        for (contrast, size), own in zip(ways, tally, strict=True):
            n, found = own.sum(axis=0).astype(int).tolist()
            whose = int(np.count_nonzero(own[:, 0]))
            low, high = wilson(found / n, max(n / effect, whose)) if n else (math.nan, math.nan)
            cells.append(Sensitivity(size, contrast, place, n, found, whose, low, high))
    return cells


def wilson(share: float, n: float) -> tuple[float, float]:
    """The 95 % interval of a share of ``n`` independent trials."""
    scale = 1 + _Z**2 / n
    middle = (share + _Z**2 / (2 * n)) / scale
    half = _Z / scale * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def design_effect(tally: NDArray[np.float64]) -> float:
    """How many implants are worth one independent implant; ``tally`` (cells, subjects, 2): planted and found.

    At least 1. With one subject it cannot be known and is 1: the interval is then about that subject alone.
    """
    between = independent = 0.0
    for own in tally:
        n, found = own[own[:, 0] > 0].T
        if len(n) > 1:
            share = found.sum() / n.sum()
            between += len(n) / (len(n) - 1) * float(((found - share * n) ** 2).sum()) / n.sum() ** 2
            independent += share * (1 - share) / n.sum()
    return max(1.0, between / independent) if independent else 1.0


def smallest_found(cells: Sequence[Sensitivity], contrast: float, place: str = ALL) -> float | None:
    """The smallest size that is found reliably, as is every larger one; None if the largest is not."""
    own = [cell for cell in cells if cell.contrast == contrast and cell.place == place and cell.planted]
    smallest = None
    for cell in sorted(own, key=lambda cell: -cell.size_mm):
        if cell.share < RELIABLE:
            break
        smallest = cell.size_mm
    return smallest
