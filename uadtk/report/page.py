"""The report of one segmentation as a self-contained HTML page, without network access.

Everything but the viewer is there without scripts, too. The only script that a browser may run is the page's own, named
by its digest in the content security policy, and niivue, which it loads.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import PurePath
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from uadtk.core.finding import Segmentation
from uadtk.core.text import shown
from uadtk.report.axial_views import Planes
from uadtk.report.histogram import histogram, histogram_svg
from uadtk.report.listing import SMALL_ML, Listed, Listing, healthy_count, listing
from uadtk.report.mosaic import FOUND, GREY, HEAT, OTHER, grey_pixels, heat_pixels, inferno, mask_pixels, png
from uadtk.report.viewer import viewer

SHOWN = 8  # findings shown with images
PANEL_PX, OVERVIEW_PX = 300, 180  # longest side
OVERVIEW_PLANES = 12


@dataclass(frozen=True)
class Panel:
    name: str
    src: str


@dataclass(frozen=True)
class Row:
    """The images of one plane. ``x`` and ``y``: position of the pointers, in percent of the image."""

    title: str
    detail: str
    panels: list[Panel]
    x: float
    y: float


def report_html(segmentation: Segmentation, planes: Planes | None = None) -> str:
    """The page as HTML, identical bytes for the same segmentation. ``planes``: of it, where they are there already."""
    point, findings = segmentation.point, segmentation.findings
    planes, order, name = planes or Planes.of(segmentation), listing(segmentation), _name(segmentation)
    hist = histogram(segmentation.scoring.score.voxels, segmentation.scoring.brain.voxels, point.threshold)
    provenance = dict(segmentation.provenance)
    options = {key: value for key, value in dict(provenance.pop("options", {})).items() if key != "point"}
    groups = {"operating point": asdict(point), **provenance, "options": options}
    return template("report.html.j2").render(
        name=name,
        facts=_facts(segmentation, options),
        gate=segmentation.gate,
        notes=provenance.get("input", {}).get("notes", ()),
        rows=_rows(planes, segmentation, order),
        overview=_overview(planes),
        aspect="{:.1f} / {:.1f}".format(*planes.size_mm),
        heat={"top": planes.heat, "cut": 100 * min(max(point.threshold / planes.heat, 0.0), 1.0)},
        ramp=", ".join(css(colour) for colour in inferno()),
        found=css(FOUND),
        other=css(OTHER),
        threshold=point.threshold,
        histogram=histogram_svg(hist),
        hist=hist,
        listing=order,
        small_ml=SMALL_ML,
        min_voxels=segmentation.min_voxels,
        count=len(findings),
        large=sum(finding.volume_ml >= SMALL_ML for finding in findings),
        healthy=healthy_count(point),
        total_ml=segmentation.total_ml,
        viewer=viewer(segmentation, planes, order.all, name),
        groups={group: lines for group, value in groups.items() if (lines := _lines(value))},
    )


@lru_cache
def template(name: str) -> Template:
    """A template of this folder; values are HTML-escaped, after what is invisible in them (``shown``)."""
    environment = Environment(
        loader=PackageLoader("uadtk", "report"),
        autoescape=True,
        finalize=lambda value: shown(value) if type(value) is str else value,  # Markup is the templates' own
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda value: f"{value:.3g}"
    return environment.get_template(name)


def _name(segmentation: Segmentation) -> str:
    source = segmentation.provenance.get("input", {}).get("path", "")
    return shown("/".join(PurePath(source).parts[-2:])) or "scan"  # half of all scans are called flair.nii.gz


def _facts(segmentation: Segmentation, options: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Term, value, and a note in small print."""
    point, scoring = segmentation.point, segmentation.scoring
    model = options.get("model", {})
    scans = f"{point.scans} scan{'' if point.scans == 1 else 's'}"
    grid, spacing = (" x ".join(f"{n:.3g}" for n in three) for three in (scoring.scan.shape, scoring.scan.spacing_mm))
    return [
        ("Model", model.get("name", "not recorded"), " ".join(str(model.get(key, "")) for key in ("dist", "version"))),
        ("Scorer", str(point.scorer), ", ".join(map(str, point.cleaners))),
        ("Operating point", f"{point.name}: score > {point.threshold:.4g}", f"{point.target} ({point.strategy})"),
        ("Calibrated on", scans, point.date),
        ("Brain mask", scoring.brain_source, f"{scoring.brain.voxels.sum() * scoring.brain.voxel_ml:,.0f} ml"),
        ("Scan", f"{spacing} mm", f"{grid} voxels"),
    ]


def _rows(planes: Planes, segmentation: Segmentation, order: Listing) -> list[Row]:
    rows = [_finding_row(planes, listed) for listed in order.all[:SHOWN]]
    if rows:
        return rows
    x, y, k = planes.highest()
    score = planes.score[x, y, k]
    why = (
        "above the threshold, but its component is too small to be a finding"
        if score > np.float32(segmentation.point.threshold)
        else "not above the threshold"
    )
    detail = f"{score:.3g}, {why} · plane at z = {planes.height_mm(k, x, y):.0f} mm"
    return [_row(planes, "Highest score", detail, x, y, k, 0)]


def _finding_row(planes: Planes, listed: Listed) -> Row:
    finding = listed.finding
    x, y, k = planes.peak(finding)
    at = ", ".join(f"{mm:.0f}" for mm in finding.peak_mm)
    strength = f"peak {finding.peak:.3g} at ({at}) mm · mean {finding.mean:.3g}"
    detail = " · ".join(part for part in (listed.place, strength, f"plane at z = {finding.peak_mm[2]:.0f} mm") if part)
    title = f"Finding {finding.label} · {finding.volume_ml:.3g} ml"
    return _row(planes, title, detail, x, y, k, finding.label)


def _row(planes: Planes, title: str, detail: str, x: float, y: float, k: int, label: int) -> Row:
    size = planes.size_px(PANEL_PX)
    panels = [Panel("scan", png_src(png(grey_pixels(planes, planes.scan, k, size))))]
    if planes.reconstruction is not None:
        panels.append(Panel("reconstruction", png_src(png(grey_pixels(planes, planes.reconstruction, k, size)))))
    panels.append(Panel("score", png_src(png(heat_pixels(planes, k, size), HEAT))))
    panels.append(Panel("mask", png_src(png(mask_pixels(planes, k, size, label), GREY))))
    left, top = planes.place(x, y)
    return Row(title, detail, panels, 100 * left, 100 * top)


def _overview(planes: Planes) -> list[Panel]:
    size = planes.size_px(OVERVIEW_PX)
    return [
        Panel(f"{planes.height_mm(k):.0f} mm", png_src(png(mask_pixels(planes, k, size), GREY)))
        for k in planes.spread(OVERVIEW_PLANES)
    ]


def _lines(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Flatten a nested record to pairs of ``a.b`` and text."""
    if isinstance(value, Mapping):
        return [line for key, item in value.items() for line in _lines(item, f"{prefix}.{key}" if prefix else str(key))]
    if value is None or value == "":
        return []
    if isinstance(value, (list, tuple)):
        return [(prefix, ", ".join(map(str, value)))] if value else []
    return [(prefix, f"{value:.6g}" if isinstance(value, float) else str(value))]


def png_src(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def css(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
