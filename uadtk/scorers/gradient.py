"""Gradient: the magnitude of the gradient of the model's objective in each pixel.

Baur et al. 2021, Eq. 4, after Zimmerer et al. 2018 (context VAE): |d objective / dx| alone, from one backward pass. The
authors' code multiplies it by the residual instead: ``form=product`` (its constant factor only rescales thresholds).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from uadtk.kernels import aggregate
from uadtk.networks.arrays import to_array, to_tensor
from uadtk.networks.seeded import seeded
from uadtk.plugin import Scored, option


@dataclass(frozen=True)
class Options:
    form: Literal["paper", "product"] = option(
        "paper", "The gradient alone (paper), or residual times |gradient| (code)."
    )
    polarity: Literal["positive", "absolute"] = option(
        "absolute", "Abnormal sign of the gradient (paper) or of the residual (product); positive: too bright."
    )


class Scorer:
    Options = Options
    needs: tuple[str, ...] = ("objective",)
    needs_gradient = True

    def __init__(self, options: Options) -> None:
        self.options = options
        if options.form == "product":
            self.needs = ("objective", "reconstruct")

    def score(self, model: Any, x: Tensor, brain: Tensor) -> Scored:
        """Slices are independent, so one gradient of the summed objective serves the whole batch."""
        seen = x.detach().requires_grad_()
        with seeded(0):  # an objective may sample its latent
            (gradient,) = torch.autograd.grad(model.objective(seen).sum(), seen)
        if self.options.form == "paper":
            signed = gradient.abs() if self.options.polarity == "absolute" else gradient.clamp(min=0)
            return Scored(signed * brain)
        with torch.no_grad():
            reconstruction = model.reconstruct(x)
        arrays = (to_array(t[:, 0].contiguous()) for t in (x, reconstruction, brain))
        residual = to_tensor(aggregate(*arrays, polarity=self.options.polarity))[:, None]
        return Scored(residual * gradient.abs(), {"reconstruction": reconstruction * brain})
