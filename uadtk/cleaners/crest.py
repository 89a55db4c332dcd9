"""Crest: a voxel shares in the highest score of the finding that it belongs to.

One threshold has two tasks: to choose findings, for which it must be high, and to outline them, for which it must be
low. Two thresholds (hysteresis; Canny 1986) solve that: a finding is a component above the low one that reaches the
high one. Here the low one is an option, and scores above it are raised towards the highest of their component, as
score^(1 - share) * highest^share, so that any single threshold acts as the high one and outlines generously.

Voxels next to a component, in its slice, are raised with it. Otherwise the score would drop to nothing from one voxel
to the next, and resampling to finer voxels of the scan would put the outline too far inside.

Scores below a millionth of the low threshold become 0. They say nothing, but would take half of the bytes of a file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uadtk.kernels import label_components
from uadtk.kernels._box import occupied
from uadtk.plugin import option

NOTHING = 1e-6  # of the low threshold


@dataclass(frozen=True)
class Options:
    low: float = option(0.1, "Scores above it form the components.", ge=0)
    share: float = option(0.9, "Exponent of a component's highest score; 0 changes nothing.", ge=0, le=1)


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
        from scipy import ndimage

        found, count = label_components(score > np.float32(self.options.low), connectivity=26, min_size=1)
        raised = score.copy()
        z, y, x = occupied(found > 0)
        box = (z, *(slice(max(0, side.start - 1), side.stop + 1) for side in (y, x)))  # with the voxels beside them
        labels, score, brain = found[box], score[box], brain[box]
        inside = labels > 0
        highest = np.zeros(count + 1, np.float32)
        np.maximum.at(highest, labels[inside], score[inside])
        crest = highest[labels]
        beside = ndimage.maximum_filter(crest, (1, 3, 3), mode="constant")  # in the slice (z, y, x)
        crest = np.where(inside, crest, beside) * brain
        share, rows = np.float32(self.options.share), crest > 0
        raised[box][rows] = score[rows] ** (1 - share) * crest[rows] ** share
        raised[raised < NOTHING * self.options.low] = 0
        return raised
