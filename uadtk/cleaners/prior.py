"""Prior: scores are weighted by the intensity of the scan.

The study keeps residuals only where the image is among the brightest (its hyper-intensity prior, a hard cut at a
quantile). Here it is continuous: the score is multiplied by the voxel's intensity rank among the brain's voxels.

Noise moves the rank of a voxel, and lesions are larger than a voxel. With ``smooth_mm`` the rank is the geometric mean
of two: that of the voxel, and that of the scan smoothed with a Gaussian, for which the outside of the brain is 0. So a
bright voxel at the rim of the brain, often a remnant of the skull, ranks lower.

Small lesions are among the brightest tissue; a tumour has grey parts, which a high power would cut off. With
``large_mm`` the power falls where the scores nearby are high: it is multiplied by (1 - m)^2, m being the average of the
scores, weighted by a Gaussian, in the brain. So the size of what was found sets the weight of brightness.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uadtk.kernels._gaussian import gaussian
from uadtk.plugin import option

LEVELS = 65535  # intensity bins up to the brightest value, for ranking


@dataclass(frozen=True)
class Options:
    power: float = option(1.0, "Exponent of the rank in (0, 1]; 0 disables the prior.", ge=0, le=64)
    smooth_mm: float = option(
        0.0, "Standard deviation of the smoothing for half of the exponent, in mm; 0 is none.", ge=0, le=20
    )
    large_mm: float = option(
        0.0, "The exponent falls inside findings larger than this; scores in [0, 1]; 0: nowhere.", ge=0, le=50
    )


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
        power, smooth_mm, large_mm = self.options.power, self.options.smooth_mm, self.options.large_mm
        images = [image]
        if smooth_mm:
            images.append(gaussian(image * brain, [smooth_mm / mm for mm in spacing_mm]))
        if not large_mm:
            return score * np.prod([ranked(one, brain, power / len(images)) for one in images], axis=0)
        rank = np.prod([ranked(one, brain, 1 / len(images))[brain] for one in images], axis=0)
        sigma = [large_mm / mm for mm in spacing_mm]
        near = gaussian(score, sigma)[brain] / np.maximum(gaussian(brain.astype(np.float32), sigma)[brain], 1e-3)
        weighted = np.zeros_like(score)
        weighted[brain] = score[brain] * rank ** (power * (1 - near.clip(0, 1)) ** 2)
        return weighted


def ranked(image: NDArray[np.float32], brain: NDArray[np.bool_], power: float) -> NDArray[np.float32]:
    """The share of the brain's voxels that are at most as bright, in (0, 1], to the ``power``; 0 outside the brain."""
    found = np.zeros_like(image)
    values = image[brain]
    if values.size:
        grey = (values * (LEVELS / max(float(values.max()), 1e-6))).astype(np.int32)
        share = np.cumsum(np.bincount(grey, minlength=LEVELS + 1)) / values.size
        found[brain] = (share**power).astype(np.float32)[grey]
    return found
