"""Monte Carlo: mean residual over sampled reconstructions, with its variance as uncertainty.

Baur et al. 2021, Eq. 3: the mean of N residuals, with samples from a VAE's latent distribution or from dropout
(Pawlowski et al. 2018). The authors' code takes the residual of the mean reconstruction instead, which is never larger
(Jensen): ``mode=mean-reconstruction``. The map ``uncertainty`` is the variance of the N residuals in both modes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from uadtk.kernels import Aggregate, aggregate
from uadtk.kernels.residual import Polarity
from uadtk.networks.arrays import to_array, to_tensor
from uadtk.networks.seeded import seeded
from uadtk.plugin import Scored, option

AT_ONCE = 32  # samples in memory at a time, whatever N is


@dataclass(frozen=True)
class Options:
    samples: int = option(100, "Reconstructions drawn per slice.", ge=1)
    mode: Literal["mean-residual", "mean-reconstruction"] = option(
        "mean-residual", "Mean of the residuals (paper), or residual of the mean (code)."
    )
    polarity: Polarity = option("positive", "Abnormal sign of the residual.")
    seed: int = option(0, "Seed of the samples.", ge=0, le=2**32 - 1)


class Scorer:
    Options = Options
    needs = ("sample",)

    def __init__(self, options: Options) -> None:
        self.options = options

    def score(self, model: Any, x: Tensor, brain: Tensor) -> Scored:
        """Samples of one slice form a batch, under the same seed for every slice: slices are scored independently."""
        options = self.options
        image, inside = (to_array(t[:, 0].contiguous()) for t in (x, brain))
        residuals = Aggregate(image, inside, polarity=options.polarity, variance=True)
        total = torch.zeros_like(x, dtype=torch.float64)
        for k in range(len(x)):
            with seeded(options.seed):
                for left in range(options.samples, 0, -AT_ONCE):
                    drawn = model.sample(x[k : k + 1], min(left, AT_ONCE))
                    residuals.add(to_array(drawn[:, :, 0].contiguous()), at=k)
                    total[k : k + 1] += drawn.sum(0, dtype=torch.float64)
        mean = (total / options.samples).to(x.dtype)
        if options.mode == "mean-residual":
            score = residuals.mean
        else:
            score = aggregate(image, to_array(mean[:, 0].contiguous()), inside, polarity=options.polarity)
        maps = {"reconstruction": mean * brain, "uncertainty": to_tensor(residuals.variance)[:, None]}
        return Scored(to_tensor(score)[:, None], maps)
