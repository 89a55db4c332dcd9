"""No learning: the rank of a voxel's intensity among the voxels of its own brain.

Meissen, Kaissis, Rueckert: *Challenging Current Semi-Supervised Anomaly Segmentation Methods for Brain MRI* (2021):
thresholding histogram-equalised FLAIR exceeds every ⌈DICE⌉ of the comparative study. The baseline of every table.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from uadtk.plugin import option


@dataclass(frozen=True)
class Options:
    bins: int = option(0, "Grey levels of the equalisation (256 in the paper); 0 ranks exactly.", ge=0, le=65536)


class Model(nn.Module):
    Options = Options

    def __init__(self, options: Options, side: int) -> None:
        super().__init__()
        self.options = options

    def score(self, x: Tensor, brain: Tensor) -> Tensor:
        """Fraction of the scan's brain pixels that are not brighter, in (0, 1]; 0 outside the brain."""
        values = x[brain]
        if self.options.bins:
            top = values.max().clamp(min=torch.finfo(values.dtype).tiny)
            values = (values / top * self.options.bins).floor().clamp(max=self.options.bins - 1)
        rank = torch.searchsorted(values.sort().values, values, right=True)
        score = torch.zeros_like(x)
        score[brain] = rank.to(x.dtype) / max(1, values.numel())
        return score
