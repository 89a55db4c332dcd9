"""Median: a 3-D median filter that removes thin or isolated scores.

The paper filters 5 x 5 x 5 voxels of 1 mm. ``unit=mm`` preserves the physical size of the window, so that slices of
5 mm are not smeared over 25 mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from uadtk.kernels import median3d
from uadtk.plugin import option


@dataclass(frozen=True)
class Options:
    size: float = option(5.0, "Edge of the window.", ge=1, le=50)
    unit: Literal["voxel", "mm"] = option("voxel", "Unit of the edge.")


class Cleaner:
    Options = Options

    def __init__(self, options: Options) -> None:
        self.options = options

    def window(self, spacing_mm: tuple[float, float, float]) -> tuple[int, int, int]:
        """Odd number of voxels per axis (z, y, x), at most 7."""
        scale = spacing_mm if self.options.unit == "mm" else (1.0, 1.0, 1.0)
        z, y, x = (
            min(7, 2 * round((self.options.size / mm - 1) / 2) + 1) if mm < self.options.size else 1 for mm in scale
        )
        return z, y, x

    def clean(
        self,
        score: NDArray[np.float32],
        image: NDArray[np.float32],
        brain: NDArray[np.bool_],
        spacing_mm: tuple[float, float, float],
    ) -> NDArray[np.float32]:
        return median3d(score, self.window(spacing_mm))
