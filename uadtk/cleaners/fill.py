"""Fill: the score is at least its own local average, so that large findings have no holes.

A segmenter is least certain in the middle of a large lesion and at its texture. The local average, weighted by a
Gaussian, exceeds such a voxel's score inside a large finding, and almost nowhere in a small one: a lesion much smaller
than the Gaussian, and its surroundings, keep their scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uadtk.kernels._box import occupied
from uadtk.kernels._gaussian import gaussian
from uadtk.plugin import option


@dataclass(frozen=True)
class Options:
    sigma_mm: float = option(10.0, "Standard deviation of the Gaussian in mm.", ge=0.1, le=50)


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
        filled, box = score.copy(), occupied(score, brain)
        average = gaussian(score[box], [self.options.sigma_mm / mm for mm in spacing_mm])
        np.maximum(filled[box], average * brain[box], out=filled[box])
        return filled
