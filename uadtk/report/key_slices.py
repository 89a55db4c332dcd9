"""One picture of a scan's most suspicious findings, to be looked at where the report cannot be opened."""

from __future__ import annotations

import textwrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from uadtk.core.finding import Segmentation
from uadtk.report.axial_views import Planes
from uadtk.report.listing import healthy_count
from uadtk.report.mosaic import FOUND, GREY, Colour, Pixels, mask_pixels

SHOWN, ACROSS = 8, 4
PANEL_PX, GAP, LINE = 320, 12, 26
_PAPER: Colour = (13, 16, 20)
_BRIGHT: Colour = (235, 238, 242)
_DIM: Colour = (150, 158, 168)


def key_slices(result: Segmentation, title: str, use: str, planes: Planes | None = None) -> Pixels:
    """The axial planes through the peaks of findings, the highest first, outlined, as RGB (rows, columns, 3).

    Without findings, planes spread through the brain. ``use`` stands in the picture, as what it may be used for.
    """
    planes = planes or Planes.of(result)
    panels = _panels(result, planes)
    width, height = planes.size_px(PANEL_PX)
    across, down = min(ACROSS, len(panels)), -(-len(panels) // ACROSS)
    sheet_px = max(GAP + across * (width + GAP), 560)
    large, small = ImageFont.load_default(18), ImageFont.load_default(14)
    count, total_ml = len(result.findings), sum(finding.volume_ml for finding in result.findings)
    many = f", the {len(panels)} of the highest scores shown" if count > len(panels) else ""
    usual = healthy_count(result.point)
    healthy = textwrap.wrap(usual[:1].upper() + usual[1:], (sheet_px - 2 * GAP) // 7)
    above = [(title, _BRIGHT, large), (f"{count} findings, {total_ml:.2f} ml{many}", _BRIGHT, small)]
    above += [*((line, _DIM, small) for line in healthy), (use, FOUND, small)]
    head, step = LINE * len(above) + GAP, height + LINE + GAP
    sheet = Image.new("RGB", (sheet_px, head + down * step), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (line, colour, font) in enumerate(above):
        draw.text((GAP, LINE * (number + 0.65)), line, colour, font, anchor="lm")
    for place, (label, k, caption) in enumerate(panels):
        left, top = GAP + place % ACROSS * (width + GAP), head + place // ACROSS * step
        sheet.paste(Image.fromarray(GREY[mask_pixels(planes, k, (width, height), label)]), (left, top))
        draw.text((left + 6, top + 4), "R", _BRIGHT, small)
        draw.text((left + width - 6, top + 4), "L", _BRIGHT, small, anchor="ra")
        draw.text((left, top + height + 4), caption, _DIM, small)
    return np.asarray(sheet)


def _panels(result: Segmentation, planes: Planes) -> list[tuple[int, int, str]]:
    """Label, plane and caption of each; label 0 is none."""
    ranked = sorted(result.findings, key=lambda finding: -finding.peak)[:SHOWN]
    if not ranked:
        return [(0, k, f"z = {planes.height_mm(k):.0f} mm") for k in planes.spread(SHOWN)]
    return [
        (f.label, planes.peak(f)[2], f"{f.label}: peak {f.peak:.3g}, {f.volume_ml:.2f} ml, z = {f.peak_mm[2]:.0f} mm")
        for f in ranked
    ]
