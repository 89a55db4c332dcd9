"""Erode: scores at the rim of the brain are set to 0, as reconstructions are poor there.

The reference code erodes by 12 pixels of 128, which keeps 42 % of the brain; a few are enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uadtk.kernels import erode
from uadtk.plugin import option


@dataclass(frozen=True)
class Options:
    iterations: int = option(3, "Pixels eroded from the brain mask, in every axial slice.", ge=0, le=32)


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
        return score * self.kept(brain)

    def kept(self, brain: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return erode(brain, self.options.iterations, per_slice=True)
