"""Strips of images for the mosaic of a benchmark (the study's Fig. 6): one column per case, one strip per method.

Every panel is an axial plane, chosen from scan and truth only and so the same for all methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uadtk.core.errors import DataError
from uadtk.core.finding import Scoring
from uadtk.core.volume import Mask
from uadtk.report.axial_views import Planes, canonical
from uadtk.report.mosaic import GREY, HEAT, Pixels, grey_pixels, mask_pixels, png, shades

PANEL_PX = 150  # width and height of a panel, in which the plane is centred
_GAP_PX = 4
# One palette for both rows of a strip: half the shades of grey, then half the colours of the score.
_BOTH = np.concatenate([GREY[:254:2], HEAT[:254:2], np.zeros((2, 3), np.uint8)])
_EMPTY, _FIRST_HEAT = 16, 127


@dataclass(frozen=True)
class Case:
    """One plane of one scan. Pixels index ``GREY``; ``score`` is float32, coloured later on the strip's scale.

    ``marked``: the scan with the truth outlined. ``heat``: the score with the brightest colour.
    """

    scan: Pixels
    marked: Pixels
    reconstruction: Pixels | None
    score: NDArray[np.float32]
    heat: float


def case(scoring: Scoring, truth: Mask) -> Case:
    """The plane with the largest area of ``truth``; the middle of the brain if it is empty.

    Raises
    ------
    DataError
        ``truth`` is not on the scan's grid.
    """
    if not truth.same_grid(scoring.scan):
        raise DataError("is not on the scan's grid", "truth")
    planes = Planes.of_scoring(scoring)
    lesion = canonical(truth)[0]
    k = int(lesion.sum(axis=(0, 1)).argmax()) if lesion.any() else planes.spread(1)[0]
    size = planes.size_px(PANEL_PX)
    again = planes.reconstruction
    return Case(
        scan=grey_pixels(planes, planes.scan, k, size),
        marked=mask_pixels(planes, k, size, truth=lesion, width=1),
        reconstruction=None if again is None else grey_pixels(planes, again, k, size),
        score=planes.plane(planes.score, k).astype(np.float32),  # a copy: a view would hold the whole volume in memory
        heat=planes.heat,
    )


def strip(cases: Sequence[Case]) -> bytes:
    """PNG of one method: reconstructions (an empty panel without one) above scores on a common colour scale."""
    heat = max(one.heat for one in cases)
    above = [np.full_like(one.scan, _EMPTY) if one.reconstruction is None else one.reconstruction for one in cases]
    below = [shades(one.score, 0.0, heat, one.scan.shape[::-1]) for one in cases]
    return png(np.concatenate([_row(above) // 2, _FIRST_HEAT + _row(below) // 2]), _BOTH)


def head(cases: Sequence[Case]) -> bytes:
    """PNG for the top of the mosaic: scans, and the same scans with the truth outlined."""
    return png(np.concatenate([_row([one.scan for one in cases]), _row([one.marked for one in cases])]), GREY)


def _row(panels: Sequence[Pixels]) -> Pixels:
    side = PANEL_PX + _GAP_PX
    row = np.zeros((side, side * len(panels)), np.uint8)
    for i, panel in enumerate(panels):
        height, width = panel.shape
        top, left = (side - height) // 2, i * side + (side - width) // 2
        row[top : top + height, left : left + width] = panel
    return row
