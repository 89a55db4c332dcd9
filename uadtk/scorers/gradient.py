"""Gradient: the residual, weighted by the magnitude of the gradient of the model's objective in each pixel.

After Baur et al. 2021, Eq. 4, and Zimmerer et al. 2018 (context VAE). The equation is |d objective / dx| alone, but an
objective with Σ|x − x̂| has the derivative ±1 at every pixel, normal or not, beside which the rest is small: the
magnitude barely tells lesions from tissue. The authors' code multiplies it by the residual, and so does
``form=product`` here (the code's constant factor only rescales thresholds). ``form=paper,polarity=absolute`` is the
equation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from uadtk.kernels import aggregate
from uadtk.kernels.residual import Polarity
from uadtk.networks.arrays import to_array, to_tensor
from uadtk.networks.seeded import seeded
from uadtk.plugin import Scored, option


@dataclass(frozen=True)
class Options:
    form: Literal["paper", "product"] = option(
        "product", "The gradient alone (paper), or residual times |gradient| (code)."
    )
    polarity: Polarity = option(
        "positive", "Abnormal sign of the gradient (paper) or of the residual (product); positive: too bright."
    )


class Scorer:
    Options = Options
    needs: tuple[str, ...] = ("objective", "reconstruct")
    needs_gradient = True

    def __init__(self, options: Options) -> None:
        self.options = options
        if options.form == "paper":
            self.needs = ("objective",)

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
