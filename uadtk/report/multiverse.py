"""The multiverse as text and as TSV: stability of the ranks, and the choices with the largest effect on DICE.

The values are computed in ``uadtk.metrics.multiverse``.
"""

from __future__ import annotations

from collections.abc import Sequence

from uadtk.metrics.multiverse import Driver, Multiverse, Rank
from uadtk.report.table import aligned, tsv

COLUMNS = ("collection", "label", "rule", "erosion", "median_mm", "min_voxels", "grid", "dice")
_NAMES = {"rule": "threshold rule", "median_mm": "median", "min_voxels": "component floor"}
_HEADING = ("method", "median rank", "best", "worst", "first", "median DICE", "lowest", "highest")
_NOTES = """
A universe combines a threshold rule, an erosion, a median, a component floor and a grid; in each, methods are ranked by
mean DICE per patient. first: share of universes in which no other method is better. Effect on DICE: mean range when
only that choice varies. The rule 'oracle' chooses its threshold on the test scans.
"""


def as_text(ranks: Sequence[Rank], drivers: Sequence[Driver]) -> str:
    """One table per collection, followed by the effect of each choice on DICE."""
    parts = []
    for name in dict.fromkeys([*(rank.collection for rank in ranks), *(driver.collection for driver in drivers)]):
        own = [rank for rank in ranks if rank.collection == name]
        moved = [driver for driver in drivers if driver.collection == name]
        parts.append("\n".join(filter(None, [name, _table(own), _moved(moved)])))
    return "\n\n".join(parts) + "\n" + _NOTES


def as_tsv(found: Sequence[Multiverse]) -> str:
    """One line for each universe; DICE in full precision."""
    rows = [(one.collection, one.label, *own.choices, own.dice) for one in found for own in one.universes]
    return tsv(COLUMNS, rows)


def _table(ranks: Sequence[Rank]) -> str:
    if not ranks:
        return "the methods share no universe: nothing to rank"
    return f"{ranks[0].universes} universes\n" + aligned([_HEADING, *map(_cells, ranks)])


def _cells(rank: Rank) -> tuple[str, ...]:
    places = (f"{place:g}" for place in (rank.median, rank.best, rank.worst))
    dice = (f"{value:.3f}" for value in (rank.dice_median, rank.dice_low, rank.dice_high))
    return rank.label, *places, f"{100 * rank.first:.0f} %", *dice


def _moved(drivers: Sequence[Driver]) -> str:
    effects = ", ".join(f"{_NAMES.get(one.switch, one.switch)} {one.spread:.3f}" for one in drivers)
    return f"Effect on DICE: {effects}" if effects else ""
