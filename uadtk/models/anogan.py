"""AnoGAN: a GAN of healthy slices; each slice is reconstructed by a search in its latent space.

Schlegl, Seeböck, Waldstein, Schmidt-Erfurth, Langs: *Unsupervised Anomaly Detection with Generative Adversarial
Networks to Guide Marker Discovery* (2017, arXiv 1703.05921). A generator G learns to map z ~ N(0, 1) to slices. The
reconstruction of x is G(z) after ``steps`` steps of gradient descent over z alone on

    (1 − weight) · Σ|x − G(z)| + weight · Σ|f(x) − f(G(z))|

where f are the features of the critic (the text of Baur et al. 2021 squares both differences). This is slow. The search
starts from the same z for all slices, so results are reproducible. Slices are independent of each other, but rounding
errors, which depend on the batch size, grow during the search: to a few percent of the residual after 500 steps.

The paper's GAN is a DCGAN for 64 pixels; here it is the first stage of ``fanogan``. Inferred: the search uses Adam. The
losses of a GAN do not indicate when to stop, so all epochs are run; the validation loss that is logged is the critic's
estimate of the Wasserstein distance between held-out and generated slices.
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
    latent: int = option(128, "Dimension of z.", ge=1, le=4096)
    steps: int = option(500, "Steps of the search for z.", ge=1)
    rate: float = option(0.05, "Learning rate of the search.", ge=0)
    weight: float = option(0.1, "Weight of the feature-matching loss in the search, from 0 to 1.", ge=0, le=1)
    critic_steps: int = option(5, "Steps of the critic per batch.", ge=1)
    penalty: float = option(10.0, "Weight of the critic's gradient penalty.", ge=0)


class Model(nn.Module):
    Options = Options
    betas = (0.5, 0.9)
    judged_from = math.inf
    quick: ClassVar = {"steps": 1}  # before rounding errors grow
    exempt: ClassVar = {
        "loss_falls": "An untrained critic measures no distance, so the loss starts near 0.",
        "known_lesions_are_not_learned": "Without the lesions the loss is another distance, which may be larger.",
    }
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
        return {"loss": self.critic(batch.target * batch.normal).mean() - self.critic(self._generated(batch)).mean()}

    def _generated(self, batch: Batch) -> Tensor:
        return generated(self.generator, self.options.latent, batch)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Slices are independent: each has its own z, and Adam treats every number by itself."""
        with torch.inference_mode(False), torch.enable_grad():
            x = x.clone()  # autograd refuses tensors made in inference mode
            features = self.critic.features(x).detach()
            z = self.start.repeat(len(x), 1).requires_grad_()
            adam = torch.optim.Adam([z], lr=self.options.rate)
            for _ in range(self.options.steps):
                (z.grad,) = torch.autograd.grad(self._distance(x, features, self.generator(z)).sum(), z)
                adam.step()
            return self.generator(z).detach()

    def _distance(self, x: Tensor, features: Tensor, found: Tensor) -> Tensor:
        """The loss of the search, (B,)."""
        weight = self.options.weight
        return (1 - weight) * l1(x, found) + weight * l1(features, self.critic.features(found))
