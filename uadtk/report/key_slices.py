"""One picture of a scan's most suspicious findings, to be looked at where the report cannot be opened."""

from __future__ import annotations

import textwrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from uadtk.core.finding import Segmentation
from uadtk.report.axial_views import Planes
from uadtk.report.listing import by_peak, healthy_count
from uadtk.report.mosaic import BRIGHT, DIM, FOUND, GREY, PAPER, Pixels, mask_pixels

SHOWN, ACROSS = 8, 4
PANEL_PX, GAP, LINE = 320, 12, 26


def key_slices(result: Segmentation, title: str, use: str, planes: Planes | None = None) -> Pixels:
    """The axial planes through the peaks of findings, the highest first, outlined, as RGB (rows, columns, 3).

    Without findings, planes spread through the brain. ``use``: what it may be used for, which the picture says.
    """
    planes = planes or Planes.of(result)
    panels = _panels(result, planes)
    width, height = planes.size_px(PANEL_PX)
    across, down = min(ACROSS, len(panels)), -(-len(panels) // ACROSS)
    sheet_px = max(GAP + across * (width + GAP), 560)
    large, small = ImageFont.load_default(18), ImageFont.load_default(14)
    count = len(result.findings)
    many = f", the {len(panels)} of the highest scores shown" if count > len(panels) else ""
    usual = healthy_count(result.point)
    healthy = textwrap.wrap(usual[:1].upper() + usual[1:], (sheet_px - 2 * GAP) // 7)
    above = [(title, BRIGHT, large), (f"{count} findings, {result.total_ml:.2f} ml{many}", BRIGHT, small)]
    above += [*((line, DIM, small) for line in healthy), (use, FOUND, small)]
    head, step = LINE * len(above) + GAP, height + LINE + GAP
    sheet = Image.new("RGB", (sheet_px, head + down * step), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (line, colour, font) in enumerate(above):
        draw.text((GAP, LINE * (number + 0.65)), line, colour, font, anchor="lm")
    for place, (label, k, caption) in enumerate(panels):
        left, top = GAP + place % ACROSS * (width + GAP), head + place // ACROSS * step
        sheet.paste(Image.fromarray(GREY[mask_pixels(planes, k, (width, height), label)]), (left, top))
        draw.text((left + 6, top + 4), "R", BRIGHT, small)
        draw.text((left + width - 6, top + 4), "L", BRIGHT, small, anchor="ra")
        draw.text((left, top + height + 4), caption, DIM, small)
    return np.asarray(sheet)


def _panels(result: Segmentation, planes: Planes) -> list[tuple[int, int, str]]:
    """Label, plane and caption of each; label 0 is none."""
    ranked = by_peak(result.findings)[:SHOWN]
    if not ranked:
        return [(0, k, f"z = {planes.height_mm(k):.0f} mm") for k in planes.spread(SHOWN)]
    return [
        (f.label, planes.peak(f)[2], f"{f.label}: peak {f.peak:.3g}, {f.volume_ml:.2f} ml, z = {f.peak_mm[2]:.0f} mm")
        for f in ranked
    ]
