"""Restoration: the change of the image that makes it normal to the model.

You et al., *Unsupervised lesion detection via image restoration with a normative prior* (MIDL 2019); the most accurate
and slowest method of Baur et al. 2021. Starting at x = y, the slice, gradient steps minimise

    objective(x) + tv * TV(x - y)

inside the brain; the score is the intensity removed, y - x. TV is the anisotropic total variation, which keeps the
change small and contiguous; nothing else ties x to y. The comparative study's code applies TV to the reconstruction
error, so that y is forgotten after the first step, and neither clips nor masks; that variant is not offered. Its other
settings are ``steps=150,rate=1e-3,late_rate=1e-3``.

The weight of TV decides how small a lesion can be removed. Where the objective is Σ|x − x̂|, a region moves only if its
number of pixels exceeds ``tv`` times its perimeter: a pixel with its four neighbours below 5/12, a disc of 5.6 pixels
radius at 2.2. You et al. use 2.2 for a VAE and 1.8 for a GMVAE, the weights that change healthy scans least, which
removes no small lesion even with a perfect model. ``uadtk tune-restoration`` chooses it on planted lesions.

The authors compute the model's gradient in each of 500 small steps. It changes slowly and dominates the cost: here one
gradient serves ``hold`` steps, between which only TV, clipping and brain mask are updated. The effect of that and of
``precision=bfloat16`` on scores and time is measured in benchmarks/README.md; ``hold=1`` is the paper's method. Slices
are processed in batches.

The steps are subgradient steps of fixed size: where TV is at its minimum they jitter by a few ``rate * tv``, as in the
authors' implementation, and ``tolerance`` must exceed that jitter to stop a slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from uadtk.kernels import aggregate
from uadtk.kernels.residual import Polarity
from uadtk.networks.arrays import to_array, to_tensor
from uadtk.networks.seeded import seeded
from uadtk.plugin import Scored, option

EARLY_STEPS = 100
WINDOW = 20  # steps; the means of successive windows are compared, where jitter averages out and progress does not


@dataclass(frozen=True)
class Options:
    tv: float = option(0.4, "Weight of the total variation of the change.", ge=0)
    steps: int = option(500, "Gradient steps.", ge=1)
    rate: float = option(5e-3, f"Step size in the first {EARLY_STEPS} steps.", ge=0)
    late_rate: float = option(2e-3, "Step size after them.", ge=0)
    clip: float = option(50.0, "Maximum gradient of a pixel (You et al.: 50 for a VAE, 100 for a GMVAE).", ge=0)
    tolerance: float = option(
        0.0, f"Stop a slice when its mean over {WINDOW} late steps changes by less than this fraction; 0: never.", ge=0
    )
    polarity: Polarity = option("positive", "Abnormal sign of the change.")
    hold: int = option(4, "Steps per gradient of the model; the gradient of TV is updated in every step.", ge=1)
    precision: Literal["float32", "bfloat16"] = option(
        "float32", "The model's arithmetic; bfloat16 is faster only in hardware."
    )


class Scorer:
    Options = Options
    needs = ("objective",)
    needs_gradient = True

    def __init__(self, options: Options) -> None:
        self.options = options

    def score(self, model: Any, x: Tensor, brain: Tensor) -> Scored:
        with seeded(0):  # an objective may sample its latent in every step
            restored = self._restored(model, x, brain)
        arrays = (to_array(t[:, 0].contiguous()) for t in (x, restored, brain))
        residual = to_tensor(aggregate(*arrays, polarity=self.options.polarity))
        return Scored(residual[:, None], {"reconstruction": restored * brain})

    def _restored(self, model: Any, x: Tensor, brain: Tensor) -> Tensor:
        """Converged slices leave the batch, which makes the remaining steps faster."""
        options = self.options
        restored = x.clone()
        active = torch.arange(len(x), device=x.device)
        start, now, inside = x, x, brain
        before, total = x, torch.zeros_like(x)
        uphill = x
        for step in range(options.steps):
            rate = options.rate if step < EARLY_STEPS else options.late_rate
            if step % options.hold == 0:
                uphill = self._objective_gradient(model, now)
            gradient = uphill + options.tv * tv_gradient(now - start)
            now = now - rate * inside * gradient.clamp(-options.clip, options.clip)
            total = total + now
            if (step + 1) % WINDOW:
                continue
            mean = total / WINDOW
            moved, size = (t.flatten(1).norm(dim=1) for t in (mean - before, mean))
            before, total = mean, torch.zeros_like(mean)
            settled = moved < options.tolerance * size
            if step >= EARLY_STEPS + WINDOW and settled.any():
                restored[active] = now
                active, start, now, inside, before, total, uphill = (
                    t[~settled] for t in (active, start, now, inside, before, total, uphill)
                )
                if not len(active):
                    break
        restored[active] = now
        return restored

    def _objective_gradient(self, model: Any, x: Tensor) -> Tensor:
        """With respect to the image only; no gradients of weights are computed."""
        seen = x.detach().requires_grad_()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.options.precision == "bfloat16"):
            value = model.objective(seen).sum()
        (gradient,) = torch.autograd.grad(value, seen)
        return gradient


def tv_gradient(change: Tensor) -> Tensor:
    """A subgradient of sum |c_i - c_j| over neighbouring pixels i, j of each image (B, 1, S, S)."""
    down, right = change.diff(dim=2).sign(), change.diff(dim=3).sign()
    return F.pad(down, (0, 0, 1, 0)) - F.pad(down, (0, 0, 0, 1)) + F.pad(right, (1, 0)) - F.pad(right, (0, 1))
