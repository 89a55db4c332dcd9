"""Pictures of implants for the page of detection limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from uadtk.core.finding import Scoring
from uadtk.core.volume import Mask, Volume
from uadtk.report.axial_views import Planes, canonical
from uadtk.report.mosaic import GREY, grey_pixels, mask_pixels, png

SHOWN_MM, PICTURE_PX = 80.0, 200  # edge of the square around an implant, and of its picture


def example_png(
    scoring: Scoring, components: Volume, box: tuple[slice, slice, slice], inside: NDArray[np.bool_], size_mm: float
) -> bytes:
    """The axial plane with most of an implant, twice, side by side: as it is, and with implant and findings outlined.

    ``inside``: the implant's voxels in ``box`` of the scan's grid.
    """
    voxels = np.zeros(scoring.scan.shape, dtype=bool)
    voxels[box] = inside
    implant = canonical(Mask(voxels, scoring.scan.affine))[0]
    planes = replace(Planes.of_scoring(scoring), components=canonical(components)[0])
    k = int(implant.sum(axis=(0, 1)).argmax())
    middle = np.argwhere(implant[:, :, k]).mean(axis=0)
    near = planes.around(middle[0], middle[1], max(SHOWN_MM, 2 * size_mm))
    size = near.size_px(PICTURE_PX)
    plain = grey_pixels(near, near.scan, k, size)
    return png(np.concatenate([plain, mask_pixels(near, k, size, truth=implant, width=1)], axis=1), GREY)
