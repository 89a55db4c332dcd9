"""Residual: the image minus its reconstruction.

Baur et al. 2021, Eq. 2. ``positive`` keeps pixels brighter than expected (MS lesions on FLAIR, and the paper's choice
for them), ``absolute`` keeps both signs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from uadtk.kernels import aggregate
from uadtk.kernels.residual import Polarity
from uadtk.networks.arrays import to_array, to_tensor
from uadtk.plugin import Scored, option


@dataclass(frozen=True)
class Options:
    polarity: Polarity = option("positive", "Abnormal sign of the residual.")


class Scorer:
    Options = Options
    needs = ("reconstruct",)

    def __init__(self, options: Options) -> None:
        self.options = options

    def score(self, model: Any, x: Tensor, brain: Tensor) -> Scored:
        reconstruction = model.reconstruct(x)
        arrays = (to_array(t[:, 0].contiguous()) for t in (x, reconstruction, brain))
        residual = to_tensor(aggregate(*arrays, polarity=self.options.polarity))
        return Scored(residual[:, None], {"reconstruction": reconstruction * brain})
