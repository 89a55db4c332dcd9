"""The comparison tables of a benchmark's page: pairs, correlations of measures, sites, ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from uadtk.metrics.compare import Pair
from uadtk.metrics.multiverse import Rank
from uadtk.metrics.study import PatientMean, by_site, correlations
from uadtk.report.charts import interval_svg
from uadtk.report.figures import Row
from uadtk.report.table import short

MEASURES = {"dice": "DICE", "auprc": "AUPRC"}
LEVEL = 0.05
LEAST_ROWS = 4
_CORRELATED = {
    "AUPRC": "auprc_volume",
    "⌈DICE⌉": "dice_oracle_volume",
    "l1 normal": "l1_normal",
    "l1 anomalous": "l1_anomalous",
    "χ²": "chi_squared",
}


@dataclass(frozen=True)
class Cell:
    """``strength`` in [-1, 1] sets the cell's colour, 0 for none; ``tooltip`` is shown on hovering."""

    text: str
    detail: str = ""
    strength: float = 0.0
    tooltip: str = ""


@dataclass(frozen=True)
class Matrix:
    title: str
    heads: list[str]
    rows: list[tuple[str, list[Cell]]]


@dataclass(frozen=True)
class Dot:
    """A value and its interval as text and as a small chart."""

    text: str
    detail: str
    svg: str


@dataclass(frozen=True)
class Sites:
    """``places``: (collection, site) of each column; a cell is None if the row has no value."""

    title: str
    places: list[tuple[str, str]]
    rows: list[tuple[str, list[Dot | None]]]


def pair_matrices(pairs: Sequence[Pair]) -> list[Matrix]:
    """A matrix for each collection and measure: row minus column; coloured if the corrected p is below 5 %."""
    found = []
    for collection, measure in dict.fromkeys((pair.collection, pair.measure) for pair in pairs):
        own = [pair for pair in pairs if (pair.collection, pair.measure) == (collection, measure)]
        names = list(dict.fromkeys(name for pair in own for name in (pair.one, pair.other)))
        cells = {(pair.one, pair.other): _pair_cell(pair, 1) for pair in own}
        cells |= {(pair.other, pair.one): _pair_cell(pair, -1) for pair in own}
        rows = [
            (f"{k}\u2002{name}", [cells.get((name, other), Cell("")) for other in names])
            for k, name in enumerate(names, 1)
        ]
        title = " · ".join(filter(None, (collection, MEASURES.get(measure, measure))))
        found.append(Matrix(title, [str(k) for k in range(1, len(names) + 1)], rows))
    return found


def _pair_cell(pair: Pair, sign: int) -> Cell:
    if math.isnan(pair.difference):
        return Cell("-", tooltip="no patient has both")
    difference = sign * pair.difference
    first, second = (pair.one, pair.other)[::sign]
    tooltip = f"{first} minus {second}: {difference:+.3f}, {pair.pairs} patients"
    if not math.isnan(pair.low):
        low, high = (pair.low, pair.high) if sign > 0 else (-pair.high, -pair.low)
        tooltip += f", 95 % [{low:+.3f}, {high:+.3f}]"
    significant = pair.p_holm < LEVEL
    return Cell(f"{difference:+.3f}", _p(pair.p_holm), math.copysign(0.5, difference) if significant else 0.0, tooltip)


def _p(p: float) -> str:
    return "" if math.isnan(p) else "p < 0.001" if p < 0.001 else f"p {p:.2g}"


def correlation_matrices(collections: Mapping[str, Sequence[Row]]) -> dict[str, list[Matrix]]:
    """Pearson and Spearman correlations of the measures over a collection's rows; needs four complete rows."""
    found = {}
    for name, rows in collections.items():
        columns = [[row.value(measure) for measure in _CORRELATED.values()] for row in rows]
        known = ([value for value in column if value is not None] for column in columns)
        full = [column for column in known if len(column) == len(_CORRELATED)]
        if len(full) >= LEAST_ROWS:
            both = zip(("Pearson", "Spearman (ranks)"), correlations(full), strict=True)
            found[name] = [_correlation(f"{kind}, {len(full)} rows", values.tolist()) for kind, values in both]
    return found


def _correlation(title: str, values: list[list[float]]) -> Matrix:
    def cell(value: float) -> Cell:
        return Cell("-") if math.isnan(value) else Cell(f"{value:+.2f}", strength=0.7 * value)

    rows = [(name, [cell(value) for value in row]) for name, row in zip(_CORRELATED, values, strict=True)]
    return Matrix(title, list(_CORRELATED), rows)


def site_tables(collections: Mapping[str, Sequence[Row]]) -> list[Sites]:
    """AUPRC and DICE of every label by (collection, site); empty if there is only one.

    Pools such as ``ms+wmh`` are left out if their parts have rows of their own.
    """
    alone = {name: rows for name, rows in collections.items() if not _is_pool(name, collections)}
    return [table for measure in ("auprc", "dice") if (table := _site_table(measure, alone))]


def _is_pool(name: str, collections: Mapping[str, Any]) -> bool:
    return "+" in name and all(part in collections for part in name.split("+"))


def _site_table(measure: str, collections: Mapping[str, Sequence[Row]]) -> Sites | None:
    means: dict[str, dict[tuple[str, str], PatientMean]] = {}
    for name, rows in collections.items():
        for row in rows:
            labelled = [scan for scan in row.evaluation["scans"] if scan["labelled"]]
            seed = row.evaluation.get("options", {}).get("seed", 0)
            for site, mean in by_site(labelled, measure, seed).items():
                means.setdefault(row.label, {})[name, site] = mean
    places = list(dict.fromkeys(place for own in means.values() for place in own))
    if len(places) < 2:
        return None
    high = max(max((mean.value, *(mean.interval or ()))) for own in means.values() for mean in own.values())
    rows_shown = [(label, [_dot(own.get(place), high) for place in places]) for label, own in means.items()]
    return Sites(MEASURES[measure], places, rows_shown)


def _dot(mean: PatientMean | None, high: float) -> Dot | None:
    if mean is None:
        return None
    ends = f" [{short(mean.interval[0])}, {short(mean.interval[1])}]" if mean.interval else ""
    svg = interval_svg(mean.value, mean.interval, 0.0, high)
    return Dot(short(mean.value), f"{ends} n = {mean.patients}".strip(), svg)


def rank_rows(ranks: Sequence[Rank]) -> dict[str, list[tuple[Rank, str]]]:
    """The ranks of each collection, best median first, each with a bar."""
    found: dict[str, list[tuple[Rank, str]]] = {}
    for name in dict.fromkeys(rank.collection for rank in ranks):
        own = sorted((rank for rank in ranks if rank.collection == name), key=lambda rank: rank.median)
        found[name] = [(rank, interval_svg(rank.median, (rank.best, rank.worst), 1, len(own))) for rank in own]
    return found
