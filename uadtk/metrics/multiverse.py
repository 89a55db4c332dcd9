"""Stability of a ranking under choices that are not learned: threshold rule, erosion, median, component floor, grid.

Every combination of choices is a universe with a DICE for every method; a rank that holds in some universes only is an
artefact of the choices (Steegen et al., Increasing transparency through a multiverse analysis, Perspectives on
Psychological Science 2016). A method is identified by its label, which is unique within a collection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SWITCHES = ("rule", "erosion", "median_mm", "min_voxels", "grid")
Choices = tuple[str | float, ...]


@dataclass(frozen=True)
class Universe:
    """One way of post-processing and its ``dice``: mean over patients, in [0, 1].

    ``rule``: how the threshold was chosen; ``erosion``: in pixels of a slice; ``median_mm``: edge of the window, 0 for
    none; components of fewer than ``min_voxels`` are dropped; ``grid`` is ``native`` or ``model``.
    """

    rule: str
    erosion: int
    median_mm: float
    min_voxels: int
    grid: str
    dice: float

    @property
    def choices(self) -> Choices:
        """The values of ``SWITCHES``, in that order."""
        return self.rule, self.erosion, self.median_mm, self.min_voxels, self.grid


@dataclass(frozen=True)
class Multiverse:
    """All universes of one method on one collection."""

    collection: str
    label: str
    universes: tuple[Universe, ...]


@dataclass(frozen=True)
class Rank:
    """Ranks of one method over the ``universes`` shared by all methods of its collection; 1 is best.

    ``first``: share of universes in which no other method has a higher DICE.
    """

    collection: str
    label: str
    universes: int
    median: float
    best: float
    worst: float
    first: float
    dice_low: float
    dice_median: float
    dice_high: float


@dataclass(frozen=True)
class Driver:
    """``spread``: range of DICE when only ``switch`` varies, averaged over methods and the other switches."""

    collection: str
    switch: str
    spread: float


def ranks(found: Sequence[Multiverse]) -> list[Rank]:
    """By collection in the order given, best median rank first. Equal DICE share the mean of their ranks.

    A collection whose methods share no universe has no ranks.
    """
    return [rank for own in _by_collection(found) for rank in _ranks_of(own)]


def drivers(found: Sequence[Multiverse]) -> list[Driver]:
    """By collection in the order given, the switch with the largest effect on DICE first.

    A switch that never varies alone has no spread and is left out.
    """
    return [driver for own in _by_collection(found) for driver in _drivers_of(own)]


def _by_collection(found: Sequence[Multiverse]) -> list[list[Multiverse]]:
    groups: dict[str, list[Multiverse]] = {}
    for one in found:
        groups.setdefault(one.collection, []).append(one)
    return list(groups.values())


def _ranks_of(own: Sequence[Multiverse]) -> list[Rank]:
    from scipy.stats import rankdata

    tables = [{universe.choices: universe.dice for universe in one.universes} for one in own]
    common = [choices for choices in tables[0] if all(choices in table for table in tables)]
    if not common:
        return []
    dice = np.array([[table[choices] for choices in common] for table in tables])
    place = rankdata(-dice, axis=0)
    first = (dice == dice.max(axis=0)).mean(axis=1)
    found = [
        Rank(
            collection=one.collection,
            label=one.label,
            universes=len(common),
            median=float(np.median(place[k])),
            best=float(place[k].min()),
            worst=float(place[k].max()),
            first=float(first[k]),
            dice_low=float(dice[k].min()),
            dice_median=float(np.median(dice[k])),
            dice_high=float(dice[k].max()),
        )
        for k, one in enumerate(own)
    ]
    return sorted(found, key=lambda rank: (rank.median, -rank.first, -rank.dice_median))


def _drivers_of(own: Sequence[Multiverse]) -> list[Driver]:
    found = []
    for place, switch in enumerate(SWITCHES):
        groups: dict[tuple[str, Choices], list[float]] = {}
        for one in own:
            for universe in one.universes:
                others = universe.choices[:place] + universe.choices[place + 1 :]
                groups.setdefault((one.label, others), []).append(universe.dice)
        spreads = [max(dice) - min(dice) for dice in groups.values() if len(dice) > 1]
        if spreads:
            found.append(Driver(own[0].collection, switch, float(np.mean(spreads))))
    return sorted(found, key=lambda driver: -driver.spread)
