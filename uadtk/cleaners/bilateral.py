"""Bilateral: a 3-D filter that smooths scores and keeps the edges of lesions.

Tomasi, Manduchi: *Bilateral Filtering for Gray and Color Images* (1998); the thesis names it beside the median, without
settings. A score becomes the mean of its neighbours, weighted by a Gaussian of their distance in mm and one of the
difference of the scores. The Gaussian of the distance is lowered to reach 0 at ``REACH`` standard deviations, so the
result is a continuous function of the spacing. Voxels outside the brain do not count.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from uadtk.plugin import option

REACH = 2.5
Offset = tuple[int, int, int]


@dataclass(frozen=True)
class Options:
    sigma: float = option(2.0, "Standard deviation of the distance, in mm.", ge=0.1, le=20)
    contrast: float = option(0.1, "Standard deviation of the difference of scores.", ge=1e-4)


class Cleaner:
    Options = Options

    def __init__(self, options: Options) -> None:
        self.options = options

    def neighbours(self, spacing_mm: tuple[float, float, float]) -> Iterator[tuple[Offset, float]]:
        """Offsets (z, y, x) in voxels within reach, with the weight of their distance, 1 at offset 0."""
        reach, lowest = REACH * self.options.sigma, np.exp(-(REACH**2) / 2)
        for offset in product(*(range(-int(reach / mm), int(reach / mm) + 1) for mm in spacing_mm)):
            squared = sum((step * mm) ** 2 for step, mm in zip(offset, spacing_mm, strict=True))
            weight = (np.exp(-squared / (2 * self.options.sigma**2)) - lowest) / (1 - lowest)
            if weight > 0:
                yield offset, float(weight)  # type: ignore[misc]

    def clean(
        self,
        score: NDArray[np.float32],
        image: NDArray[np.float32],
        brain: NDArray[np.bool_],
        spacing_mm: tuple[float, float, float],
    ) -> NDArray[np.float32]:
        total, weights = np.zeros_like(score), np.zeros_like(score)
        steepness = np.float32(1 / (2 * self.options.contrast**2))
        for offset, near in self.neighbours(spacing_mm):
            if any(abs(step) >= n for step, n in zip(offset, score.shape, strict=True)):
                continue
            here = tuple(slice(max(0, -step), min(n, n - step)) for step, n in zip(offset, score.shape, strict=True))
            there = tuple(slice(max(0, step), min(n, n + step)) for step, n in zip(offset, score.shape, strict=True))
            alike = np.exp(-steepness * (score[here] - score[there]) ** 2)
            weight = np.float32(near) * alike * brain[there]
            total[here] += weight * score[there]
            weights[here] += weight
        return np.where(brain, total / np.where(brain, weights, 1), np.float32(0))
