"""The figures of a benchmark's page: precision-recall curves, histograms of scores, AUPRC against training scans."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from uadtk.metrics.study import by_size
from uadtk.report.charts import Axis, Curve, curves_svg, histograms_svg, key_svg, style
from uadtk.report.histogram import round_steps
from uadtk.report.table import Line, labels, short

_SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
BASELINE = "base"


@dataclass(frozen=True)
class Row:
    """A line with an evaluation, its label, and the classes of its curve, the same in every figure."""

    label: str
    line: Line
    style: str

    @property
    def evaluation(self) -> Mapping[str, Any]:
        return self.line.evaluation or {}

    def value(self, name: str) -> float | None:
        """A measure; None if missing or undefined."""
        found: float | None = self.evaluation["measures"].get(name, {}).get("value")
        return found

    def ends(self, name: str) -> tuple[float, float] | None:
        """The interval of a measure."""
        found = self.evaluation["measures"].get(name, {}).get("interval")
        return (found[0], found[1]) if found else None


@dataclass(frozen=True)
class Figure:
    """A chart and its legend: key, name and value of each curve."""

    title: str
    svg: str
    legend: list[tuple[str, str, str]]
    note: str = ""


@dataclass(frozen=True)
class Small:
    """One of several small charts."""

    title: str
    detail: str
    svg: str


def rows_by_collection(lines: Sequence[Line]) -> dict[str, list[Row]]:
    """The rows with an evaluation, by collection."""
    found: dict[str, list[Row]] = {}
    places: dict[str, int] = {}
    for label, line in zip(labels(lines), lines, strict=True):
        base = line.architecture == "histeq"
        curve = BASELINE if base else style(places.setdefault(label, len(places)))
        if line.evaluation is not None:
            found.setdefault(line.collection, []).append(Row(label, line, curve))
    return found


def precision_recall(collections: Mapping[str, Sequence[Row]]) -> list[Figure]:
    """A figure for each collection, its legend sorted by AUPRC inside the brain."""
    figures = []
    for name, rows in collections.items():
        drawn = [row for row in rows if row.evaluation.get("precision_recall")]
        drawn.sort(key=lambda row: -(row.value("auprc") or 0.0))
        if drawn:
            chance = drawn[0].evaluation.get("lesion_share")
            # the no-learning baseline last, so that nothing hides it
            ordered = sorted(drawn, key=lambda row: row.style == BASELINE)
            curves = [Curve(row.label, row.style, row.evaluation["precision_recall"]) for row in ordered]
            recall, precision = Axis("recall", 0, 1, _SHARES), Axis("precision", 0, 1, _SHARES)
            note = "" if chance is None else f"Lesion voxels are {chance:.2%} of the brain."
            svg = curves_svg(curves, recall, precision, chance)
            figures.append(Figure(name, svg, [_entry(row, "auprc") for row in drawn], note))
    return figures


def histograms(collections: Mapping[str, Sequence[Row]]) -> dict[str, list[Small]]:
    """A small chart for each row of each collection."""
    found: dict[str, list[Small]] = {}
    for name, rows in collections.items():
        for row in rows:
            counts = row.evaluation.get("histograms") or {}
            if counts and any(counts["normal"]) and any(counts["anomalous"]):
                svg = histograms_svg(counts["normal"], counts["anomalous"], counts["top"])
                chi_squared = row.value("chi_squared")
                detail = "" if chi_squared is None else f"χ² {short(chi_squared)}"
                found.setdefault(name, []).append(Small(row.label, detail, svg))
    return found


def training_sizes(collections: Mapping[str, Sequence[Row]]) -> list[Figure]:
    """A figure for each collection with rows that differ only in the number of training scans."""
    return [figure for name, rows in collections.items() if (figure := _training_size(name, rows))]


def _training_size(name: str, rows: Sequence[Row]) -> Figure | None:
    known = [row for row in rows if row.value("auprc_volume") is not None]
    groups = by_size((_method(row), row.evaluation.get("options", {}).get("learned_scans"), row) for row in known)
    if not groups:
        return None
    names = {key: f"{own[-1][1].line.architecture} {own[-1][1].line.scorer}" for key, own in groups.items()}
    curves = [
        Curve(
            names[key],
            style(place),
            # shifted sideways, so that no interval hides another
            [(scans * 1.03 ** (place - len(groups) / 2), row.value("auprc_volume") or 0.0) for scans, row in own],
            [row.ends("auprc_volume") for _, row in own],
        )
        for place, (key, own) in enumerate(groups.items())
    ]
    sizes = sorted({scans for own in groups.values() for scans, _ in own})
    highest = max(
        max(b, ends[1] if ends else 0.0) for c in curves for (_, b), ends in zip(c.points, c.ends, strict=True)
    )
    high = max(highest, 1e-12) * 1.05
    x = Axis("training scans (logarithmic)", sizes[0] / 1.15, sizes[-1] * 1.15, sizes, logarithmic=True)
    legend = [(key_svg(c.style), c.name, " → ".join(short(b) for _, b in c.points)) for c in curves]
    return Figure(name, curves_svg(curves, x, Axis("AUPRC", 0, high, round_steps(high))), legend)


def _method(row: Row) -> str:
    """Identifies rows that differ only in their training."""
    options = row.evaluation.get("options", {}).get("model", {}).get("options", {})
    return json.dumps(
        [row.line.architecture, options, *map(str, (row.line.scorer, *row.line.cleaners))], sort_keys=True
    )


def _entry(row: Row, measure: str) -> tuple[str, str, str]:
    value = row.value(measure)
    return key_svg(row.style), row.label, "-" if value is None else short(value)
