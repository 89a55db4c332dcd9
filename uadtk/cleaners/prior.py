"""Prior: scores are weighted by the intensity of the scan.

The study keeps residuals only where the image is among the brightest (its hyper-intensity prior, a hard cut at a
quantile). Here it is continuous: the score is multiplied by the voxel's intensity rank among the brain's voxels.

Noise moves the rank of a voxel, and lesions are larger than a voxel. With ``smooth_mm`` the rank is the geometric mean
of two: that of the voxel, and that of the scan smoothed with a Gaussian, for which the outside of the brain is 0. So a
bright voxel at the rim of the brain, often a remnant of the skull, ranks lower.

Small lesions are among the brightest tissue; a tumour has grey parts, which a high power would cut off. With
``large_mm`` the power falls where the scores nearby are high: it is multiplied by (1 - m)^2, m being the average of the
scores, weighted by a Gaussian, in the brain. So the size of what was found sets the weight of brightness.

Cortex, and dura that skull stripping has left, are bright too, and lie at the rim of the brain, where small lesions are
rare. With ``rim_mm`` scores are also multiplied by a weight that rises from 0.1 at the rim to 1 deep inside: 2 b - 1, b
being the share of brain in the surroundings, weighted by a Gaussian; beyond the first and the last slice nothing is
known, and nothing counts. The weight falls with the size of findings, as the power does: a tumour may reach the rim.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from uadtk.kernels._box import occupied
from uadtk.kernels._gaussian import gaussian, gaussian_of_ones
from uadtk.plugin import option

LEAST = 0.1  # weight at the rim
LEVELS = 65535  # intensity bins up to the brightest value, for ranking


@dataclass(frozen=True)
class Options:
    power: float = option(1.0, "Exponent of the rank in (0, 1]; 0 disables the prior.", ge=0, le=64)
    smooth_mm: float = option(
        0.0, "Standard deviation of the smoothing for half of the exponent, in mm; 0 is none.", ge=0, le=20
    )
    large_mm: float = option(
        0.0, "The weight falls inside findings larger than this; scores in [0, 1]; 0: nowhere.", ge=0, le=50
    )
    rim_mm: float = option(
        0.0, "Scores are lower this near to the rim of the brain: standard deviation, in mm; 0: no.", ge=0, le=50
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
        power, smooth_mm, large_mm, rim_mm = astuple(self.options)
        if not (large_mm or rim_mm or smooth_mm):
            return score * ranked(image, brain, power)

        def sigma(mm: float) -> list[float]:
            return [mm / step_mm for step_mm in spacing_mm]

        shape, weighted, box = score.shape, np.zeros_like(score), occupied(score, brain)
        score, image, brain = score[box], image[box], brain[box]
        images = [image, gaussian(image * brain, sigma(smooth_mm))] if smooth_mm else [image]
        if not (large_mm or rim_mm):
            weighted[box] = score * np.prod([ranked(one, brain, power / len(images)) for one in images], axis=0)
            return weighted
        rank = np.prod([shares(one[brain], 1 / len(images)) for one in images], axis=0)
        exponent, inside = power * np.log(rank), brain.astype(np.float32)
        if rim_mm:
            whole = gaussian_of_ones(shape, sigma(rim_mm), box)[brain]
            exponent += np.log(np.clip(2 * gaussian(inside, sigma(rim_mm))[brain] / whole - 1, LEAST, 1))
        if large_mm:
            found = gaussian(score, sigma(large_mm))[brain] / np.maximum(gaussian(inside, sigma(large_mm))[brain], 1e-3)
            exponent *= (1 - found.clip(0, 1)) ** 2
        weighted[box][brain] = score[brain] * np.exp(exponent)
        return weighted


def ranked(image: NDArray[np.float32], brain: NDArray[np.bool_], power: float) -> NDArray[np.float32]:
    """The ``shares`` of the brain's voxels; 0 outside the brain."""
    found = np.zeros_like(image)
    found[brain] = shares(image[brain], power)
    return found


def shares(values: NDArray[np.float32], power: float) -> NDArray[np.float32]:
    """For each value the share of them that is at most as high, in (0, 1], to the ``power``."""
    if not values.size:
        return values
    grey = (values * (LEVELS / max(float(values.max()), 1e-6))).astype(np.int32)
    share = np.cumsum(np.bincount(grey, minlength=LEVELS + 1)) / values.size
    return (share**power).astype(np.float32)[grey]
