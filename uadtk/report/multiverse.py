"""The multiverse as text for people and as TSV for programs: how stable each rank is, and what moves DICE.

What is shown is computed in ``uadtk.metrics.multiverse``.
"""

from __future__ import annotations

from collections.abc import Sequence

from uadtk.metrics.multiverse import Driver, Multiverse, Rank
from uadtk.report.table import aligned, tsv

COLUMNS = ("collection", "label", "rule", "erosion", "median_mm", "min_voxels", "grid", "dice")
_NAMES = {"rule": "threshold rule", "median_mm": "median", "min_voxels": "component floor"}
_HEADING = ("method", "median rank", "best", "worst", "first", "median DICE", "lowest", "highest")
_NOTES = """
Every universe is a threshold rule, an erosion, a median, a component floor and a grid; ranks are by mean DICE per
patient in each. first: share of universes in which no other method is better. What moves DICE: highest less lowest
when only that choice is changed, on average. The rule 'oracle' chooses its threshold on the scans it is tested on.
"""


def as_text(ranks: Sequence[Rank], drivers: Sequence[Driver]) -> str:
    """One table per collection, then a line on what moves DICE there."""
    parts = []
    for name in dict.fromkeys([*(rank.collection for rank in ranks), *(driver.collection for driver in drivers)]):
        own = [rank for rank in ranks if rank.collection == name]
        moved = [driver for driver in drivers if driver.collection == name]
        parts.append("\n".join(filter(None, [name, _table(own), _moved(moved)])))
    return "\n\n".join(parts) + "\n" + _NOTES


def as_tsv(found: Sequence[Multiverse]) -> str:
    """One line for each universe; DICE with all its digits."""
    rows = [(one.collection, one.label, *own.choices, own.dice) for one in found for own in one.universes]
    return tsv(COLUMNS, rows)


def _table(ranks: Sequence[Rank]) -> str:
    if not ranks:
        return "no universe that all methods have: nothing to rank"
    return f"{ranks[0].universes} universes\n" + aligned([_HEADING, *map(_cells, ranks)])


def _cells(rank: Rank) -> tuple[str, ...]:
    places = (f"{place:g}" for place in (rank.median, rank.best, rank.worst))
    dice = (f"{value:.3f}" for value in (rank.dice_median, rank.dice_low, rank.dice_high))
    return rank.label, *places, f"{100 * rank.first:.0f} %", *dice


def _moved(drivers: Sequence[Driver]) -> str:
    told = ", ".join(f"{_NAMES.get(one.switch, one.switch)} {one.spread:.3f}" for one in drivers)
    return f"What moves DICE: {told}" if told else ""
