"""Prior: scores are weighted by the intensity of the scan.

The study keeps residuals only where the image is among the brightest (its hyper-intensity prior, a hard cut at a
quantile). Here it is continuous: the score is multiplied by the voxel's intensity rank among the brain's voxels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uadtk.plugin import option

LEVELS = 65535  # intensity bins up to the brightest value, for ranking


@dataclass(frozen=True)
class Options:
    power: float = option(1.0, "Exponent of the rank in (0, 1]; 0 disables the prior.", ge=0, le=10)


class Cleaner:
    Options = Options

    def __init__(self, options: Options) -> None:
        self.options = options

    def clean(
        self,
        score: NDArray[np.float32],
        image: NDArray[np.float32],
        brain: NDArray[np.bool_],
        spacing_mm: tuple[float, float, float],
    ) -> NDArray[np.float32]:
        weighted = np.zeros_like(score)
        values = image[brain]
        if values.size:
            grey = (values * (LEVELS / max(float(values.max()), 1e-6))).astype(np.int32)
            share = np.cumsum(np.bincount(grey, minlength=LEVELS + 1)) / values.size
            weighted[brain] = score[brain] * (share**self.options.power).astype(np.float32)[grey]
        return weighted
