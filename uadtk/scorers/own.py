"""Own: the anomaly score that a model without a reconstruction computes itself."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from uadtk.plugin import NoOptions, Scored


class Scorer:
    Options = NoOptions
    needs = ("score",)
    whole_scan = True  # the model may rank a voxel among all voxels of the scan

    def __init__(self, options: NoOptions) -> None:
        pass

    def score(self, model: Any, x: Tensor, brain: Tensor) -> Scored:
        return Scored(model.score(x, brain))
