"""Median: a 3-D median filter that removes thin or isolated scores.

The paper filters 5 x 5 x 5 voxels of 1 mm. ``unit=mm`` preserves the physical size of the window, so that slices of
5 mm are not smeared over 25 mm. A width between two odd numbers of voxels blends the medians of both
windows in proportion, so the result is a continuous function of the spacing.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from uadtk.kernels import blended_median3d
from uadtk.plugin import option

WIDEST = 7  # voxels; the kernel's limit
Window = tuple[int, int, int]


@dataclass(frozen=True)
class Options:
    size: float = option(5.0, "Edge of the window.", ge=1, le=50)
    unit: Literal["voxel", "mm"] = option("voxel", "Unit of the edge.")


class Cleaner:
    Options = Options

    def __init__(self, options: Options) -> None:
        self.options = options

    def windows(self, spacing_mm: tuple[float, float, float]) -> list[tuple[float, Window]]:
        """Windows of odd width (z, y, x), at most 7 voxels, with weights that add up to 1; at most four of them.

        An axis that needs 3.5 voxels has 3 in three quarters of the weight and 5 in one, the same part for every axis.
        """
        scale = spacing_mm if self.options.unit == "mm" else (1.0, 1.0, 1.0)
        widths = [min(max(self.options.size / mm, 1.0), float(WIDEST)) for mm in scale]
        lows = [2 * int((width - 1) / 2) + 1 for width in widths]
        shares = [(width - low) / 2 for width, low in zip(widths, lows, strict=True)]  # of the next odd width
        cuts = sorted({0.0, *shares, 1.0})
        found = []
        for start, end in pairwise(cuts):
            z, y, x = (low + 2 * (share >= end) for low, share in zip(lows, shares, strict=True))
            found.append((end - start, (z, y, x)))
        return found

    def clean(
        self,
        score: NDArray[np.float32],
        image: NDArray[np.float32],
        brain: NDArray[np.bool_],
        spacing_mm: tuple[float, float, float],
    ) -> NDArray[np.float32]:
        found: NDArray[np.float32] = blended_median3d(score, self.windows(spacing_mm))
        return found
