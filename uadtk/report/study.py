"""The page of a benchmark as a self-contained HTML file, without scripts or network access."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from uadtk.metrics.compare import Pair
from uadtk.metrics.multiverse import Rank
from uadtk.report.charts import key_svg
from uadtk.report.figures import BASELINE, Row, histograms, precision_recall, rows_by_collection, training_sizes
from uadtk.report.matrices import correlation_matrices, pair_matrices, rank_rows, site_tables
from uadtk.report.page import png_src, template
from uadtk.report.table import (
    COLUMNS,
    NOTES,
    Line,
    Published,
    intervals,
    labels,
    published_row,
    published_values,
    values,
)


@dataclass(frozen=True)
class Entry:
    """A row of the table. ``cells``: value and interval of each column; ``problem`` is shown instead of them."""

    label: str
    detail: str
    cells: list[tuple[str, str]]
    patients: str
    published: tuple[str, list[str]] | None
    problem: str = ""


@dataclass(frozen=True)
class Mosaic:
    """``head``: image of the cases, or ''; ``strips``: label and image of each row."""

    head: str
    strips: list[tuple[str, str]]


def study_html(
    lines: Sequence[Line],
    published: Published,
    datasets: Mapping[str, str],
    pairs: Sequence[Pair] = (),
    ranks: Sequence[Rank] = (),
    pictures: Mapping[str, bytes] = {},
    heads: Mapping[str, bytes] = {},
    more_facts: Mapping[str, str] = {},
) -> str:
    """The page as HTML; sections without data are left out. Identical bytes for the same arguments.

    ``pairs``: all pairs of rows, named by :func:`uadtk.report.table.labels`.
    ``pictures``: PNG strip by a line's receipt; ``heads``: PNG of scans and truths by collection, both of
    :mod:`uadtk.report.mosaic_strips`. ``more_facts``: further facts for the page header.
    """
    collections = rows_by_collection(lines)
    tables: dict[str, list[Entry]] = {}
    for label, line in zip(labels(lines), lines, strict=True):
        tables.setdefault(line.collection, []).append(_entry(label, line, published, datasets))
    return template("study.html.j2").render(
        facts={"Collections": ", ".join(filter(None, tables)) or "one", "Rows": str(len(lines)), **more_facts},
        columns=[*(heading for heading, *_ in COLUMNS), "p DICE", "p AUPRC"],
        notes=" ".join(NOTES.split()),
        tables=tables,
        curves=precision_recall(collections),
        baseline=key_svg(BASELINE),
        histograms=histograms(collections),
        mosaics=_mosaics(collections, pictures, heads),
        pairs=pair_matrices(pairs),
        correlations=correlation_matrices(collections),
        sizes=training_sizes(collections),
        sites=site_tables(collections),
        ranks=rank_rows(ranks),
    )


def _entry(label: str, line: Line, published: Published, datasets: Mapping[str, str]) -> Entry:
    if line.evaluation is None:
        return Entry(label, "", [], "", None, line.problem)
    point = line.evaluation["point"]
    at = "no operating point" if point is None else f"point {point['name']}: score > {point['threshold']:.4g}"
    detail = f"{' '.join(map(str, line.cleaners)) or 'not cleaned'} · {at}"
    failed = len(line.evaluation["failed"])
    ends = [*intervals(line), "", ""]
    where, row = published_row(line, published, datasets)
    return Entry(
        label,
        detail + (f" · {failed} scans failed" if failed else ""),
        list(zip(values(line), ends, strict=True)),
        str(line.evaluation["patients"]),
        (where, published_values(row)) if where else None,
    )


def _mosaics(
    collections: Mapping[str, Sequence[Row]], pictures: Mapping[str, bytes], heads: Mapping[str, bytes]
) -> dict[str, Mosaic]:
    found = {}
    for name, rows in collections.items():
        strips = [(row.label, png_src(pictures[row.line.receipt])) for row in rows if row.line.receipt in pictures]
        if strips:
            found[name] = Mosaic(png_src(heads[name]) if name in heads else "", strips)
    return found
