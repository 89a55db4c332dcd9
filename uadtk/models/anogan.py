"""AnoGAN: a GAN of healthy slices, which is searched for the one nearest to each slice.

Schlegl, Seeböck, Waldstein, Schmidt-Erfurth, Langs: *Unsupervised Anomaly Detection with Generative Adversarial
Networks to Guide Marker Discovery* (2017, arXiv 1703.05921). A generator G learns to make slices of z ~ N(0, 1). The
reconstruction of x is G(z) after ``steps`` steps of gradient descent in z alone on

    (1 − weight) · Σ|x − G(z)| + weight · Σ|f(x) − f(G(z))|

where f are the features of the critic (the text of Baur et al. 2021 has squares in place of both). This is slow. The
search starts from the same draw of z for all slices, so that results repeat. Slices do not mix; but rounding, which
differs with the number of slices in a batch, grows in the search: in 500 steps to a few percent of the residual.

The paper's GAN is a DCGAN for 64 pixels; here it is the first stage of ``fanogan``. Inferred: Adam does the search. A
GAN has no loss that says when to stop. All epochs are run; what is logged of held-out slices is the critic's estimate
of the Wasserstein distance between them and G's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from uadtk.networks.adversaries import critic_turn, generated, generator_turn
from uadtk.networks.critics import ImageCritic
from uadtk.networks.distances import l1
from uadtk.networks.generators import UnifiedGenerator
from uadtk.networks.seeded import seeded
from uadtk.plugin import Batch, Turn, option


@dataclass(frozen=True)
class Options:
    latent: int = option(128, "Numbers in z.", ge=1, le=4096)
    steps: int = option(500, "Steps of the search for z.", ge=1)
    rate: float = option(0.05, "Learning rate of the search.", ge=0)
    weight: float = option(0.1, "Share of the critic's features in what the search goes down.", ge=0, le=1)
    critic_steps: int = option(5, "Steps of the critic per batch.", ge=1)
    penalty: float = option(10.0, "Weight of the critic's gradient penalty.", ge=0)


class Model(nn.Module):
    Options = Options
    betas = (0.5, 0.9)
    judged_from = math.inf
    quick: ClassVar = {"steps": 1}  # before rounding grows
    exempt: ClassVar = {"loss_falls": "A critic that has learned nothing sees no distance."}
    start: Tensor

    def __init__(self, options: Options, side: int) -> None:
        super().__init__()
        self.options = options
        self.generator = nn.Sequential(UnifiedGenerator(side, options.latent), nn.Sigmoid())
        self.critic = ImageCritic(side)
        with seeded(0):
            self.register_buffer("start", torch.randn(options.latent), persistent=False)

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"critic": list(self.critic.parameters()), "generator": list(self.generator.parameters())}

    def turns(self, epoch: int) -> list[Turn]:
        return [
            critic_turn(self.critic, self._generated, self.options.critic_steps, self.options.penalty),
            generator_turn(self.critic, self._generated),
        ]

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        """The critic's estimate of the Wasserstein distance between real and generated slices."""
        return {"loss": self.critic(batch.image * batch.normal).mean() - self.critic(self._generated(batch)).mean()}

    def _generated(self, batch: Batch) -> Tensor:
        return generated(self.generator, self.options.latent, batch)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Slices do not mix: each has its own z, and Adam's steps in one number know nothing of the others."""
        with torch.inference_mode(False), torch.enable_grad():
            x = x.clone()  # a tensor of inference mode cannot be learned from
            features = self.critic.features(x).detach()
            z = self.start.repeat(len(x), 1).requires_grad_()
            adam = torch.optim.Adam([z], lr=self.options.rate)
            for _ in range(self.options.steps):
                (z.grad,) = torch.autograd.grad(self._distance(x, features, self.generator(z)).sum(), z)
                adam.step()
            return self.generator(z).detach()

    def _distance(self, x: Tensor, features: Tensor, found: Tensor) -> Tensor:
        """What the search goes down, (B,)."""
        weight = self.options.weight
        return (1 - weight) * l1(x, found) + weight * l1(features, self.critic.features(found))
