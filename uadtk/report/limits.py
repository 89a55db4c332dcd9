"""Detection limits as tables, as sentences, and as a self-contained HTML page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from uadtk.metrics.detection import ALL, PLACES, RELIABLE, Planted, Sensitivity, smallest_found
from uadtk.report.page import template
from uadtk.report.table import aligned, tsv

NAMES = {
    ALL: "All places",
    "rim": "Rim: within 5 mm of the brain's border",
    "deep": "Deep: at least 10 mm from the border",
    "base": "Base: lowest 45 mm of the brain",
}
SHORT = {"rim": "at the rim", "deep": "deep in the brain", "base": "at the base"}
_PLANTED = ("subject", "size_mm", "contrast", "place", "volume_ml", "voxels", "found", "overlap", "peak", "x", "y", "z")
_SENSITIVITY = ("place", "contrast", "size_mm", "planted", "found", "sensitivity", "low", "high", "subjects")


@dataclass(frozen=True)
class Panel:
    """One heat map: a row of cells for each contrast, the highest first; None where nothing was planted."""

    name: str
    rows: list[tuple[str, list[Sensitivity | None]]]


@dataclass(frozen=True)
class Example:
    caption: str
    detail: str
    src: str


def planted_tsv(planted: Sequence[Planted]) -> str:
    """A line for each implant; x, y, z of its centre in the scan's RAS+ mm."""
    rows = (
        (
            *(one.subject, f"{one.size_mm:g}", f"{one.contrast:g}", one.place, f"{one.volume_ml:.6g}", one.voxels),
            *(int(one.found), f"{one.overlap:.4f}", f"{one.peak:.6g}", *(f"{mm:.2f}" for mm in one.centre_mm)),
        )
        for one in planted
    )
    return tsv(_PLANTED, rows)


def sensitivity_tsv(cells: Sequence[Sensitivity]) -> str:
    """A line for each place, contrast and size; empty cells where nothing was planted."""
    rows = (
        (
            *(cell.place, f"{cell.contrast:g}", f"{cell.size_mm:g}", cell.planted, cell.found),
            *("" if math.isnan(value) else f"{value:.4f}" for value in (cell.share, cell.low, cell.high)),
            cell.subjects,
        )
        for cell in cells
    )
    return tsv(_SENSITIVITY, rows)


def as_text(cells: Sequence[Sensitivity]) -> str:
    """Sensitivity in all places, for a terminal."""
    rows = _rows(cells, ALL)
    sizes = dict.fromkeys(cell.size_mm for cell in cells)
    shown = [[name, *("-" if cell is None else percent(cell.share) for cell in own)] for name, own in rows]
    return aligned([["contrast", *(f"{size:g} mm" for size in sizes)], *shown])


def missed(cells: Sequence[Sensitivity]) -> list[str]:
    """What the model would miss: a sentence for each contrast, and one that compares the places."""
    contrasts = dict.fromkeys(cell.contrast for cell in cells)
    lines = [_missed(cells, contrast) + _untested(cells, contrast) for contrast in contrasts]
    shares = []
    for place in PLACES:
        own = [cell for cell in cells if cell.place == place and cell.planted]
        if own:
            share = sum(cell.found for cell in own) / sum(cell.planted for cell in own)
            shares.append(f"{percent(1 - share)} {SHORT[place]}")
    return [*lines, f"By place, over all sizes and contrasts, it misses {_listed(shares)}."] if shares else lines


def _missed(cells: Sequence[Sensitivity], contrast: float) -> str:
    brighter = "brighter" if contrast > 0 else "darker"
    lesions = f"Lesions {100 * abs(contrast):g} % {brighter} than the tissue around them"
    own = [cell for cell in cells if cell.contrast == contrast and cell.place == ALL and cell.planted]
    if not own:
        return f"{lesions} were not tested: no scan has room for them."
    own.sort(key=lambda cell: cell.size_mm)
    smallest = smallest_found(cells, contrast)
    if smallest is None and (found := [f"{cell.size_mm:g}" for cell in own if cell.share >= RELIABLE]):
        last = own[-1]
        return f"{lesions} are found reliably of {_listed(found)} mm, but of {last.size_mm:g} mm, {_misses(last)}."
    if smallest is None:
        return f"{lesions} are missed too often at every size: even of {own[-1].size_mm:g} mm, {_misses(own[-1])}."
    if smallest == own[0].size_mm:
        return f"{lesions} are found at every size tested: of {smallest:g} mm, {_misses(own[0])}."
    below: dict[str, list[str]] = {}
    for cell in reversed(own):
        if cell.size_mm < smallest:
            below.setdefault(_misses(cell), []).append(f"{cell.size_mm:g}")
    parts = "; ".join(f"of {_listed(sizes)} mm, {share}" for share, sizes in below.items())
    return f"{lesions} are found reliably from {smallest:g} mm on; {parts}."


def _untested(cells: Sequence[Sensitivity], contrast: float) -> str:
    """Sizes for which there was no room, if there was for others."""
    own = {cell.size_mm: cell.planted for cell in cells if cell.contrast == contrast and cell.place == ALL}
    sizes = [f"{size:g}" for size, planted in sorted(own.items()) if not planted]
    return f" No scan has room for one of {_listed(sizes)} mm." if sizes and any(own.values()) else ""


def _misses(cell: Sensitivity) -> str:
    return f"{percent(1 - cell.share)} are missed" if cell.found else "all are missed"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def limits_html(
    cells: Sequence[Sensitivity],
    facts: Sequence[tuple[str, str, str]],
    examples: Sequence[Mapping[str, Any]],
    false_findings: Sequence[tuple[str, int, float]],
    notes: Sequence[str],
) -> str:
    """The page; identical bytes for the same arguments.

    ``facts``: term, value and small print. ``examples``: implants with a base64 ``png`` of each. ``false_findings``:
    subject, findings without implants, and the ml of lesion-free brain they are counted in. ``notes``: what was left
    out, a line each.
    """
    contrasts = list(dict.fromkeys(cell.contrast for cell in cells))
    return template("limits.html.j2").render(
        facts=facts,
        sizes=[f"{size:g}" for size in dict.fromkeys(cell.size_mm for cell in cells)],
        panels=[Panel(name, _rows(cells, place)) for place, name in NAMES.items()],
        limits=[(signed(contrast), smallest_found(cells, contrast)) for contrast in contrasts],
        largest=max(cell.size_mm for cell in cells),
        missed=missed(cells),
        reliable=percent(RELIABLE),
        reliable_share=RELIABLE,
        percent=percent,
        examples={
            "Found": [_example(one) for one in examples if one["found"]],
            "Missed": [_example(one) for one in examples if not one["found"]],
        },
        false_findings=false_findings,
        mean_false=sum(count for _, count, _ in false_findings) / max(1, len(false_findings)),
        notes=notes,
    )


def _rows(cells: Sequence[Sensitivity], place: str) -> list[tuple[str, list[Sensitivity | None]]]:
    own = [cell for cell in cells if cell.place == place]
    contrasts = sorted({cell.contrast for cell in own}, reverse=True)
    return [
        (signed(contrast), [cell if cell.planted else None for cell in own if cell.contrast == contrast])
        for contrast in contrasts
    ]


def _example(one: Mapping[str, Any]) -> Example:
    caption = f"{one['size_mm']:g} mm, {signed(one['contrast'])}"
    return Example(caption, f"{one['place']}, {one['subject']}", f"data:image/png;base64,{one['png']}")


def signed(contrast: float) -> str:
    return f"{100 * contrast:+g} %"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"
