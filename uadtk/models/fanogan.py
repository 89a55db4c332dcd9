"""f-AnoGAN: a GAN of healthy slices, and an encoder that maps a slice to its latent space.

Schlegl, Seeböck, Waldstein, Langs, Schmidt-Erfurth: *f-AnoGAN: Fast Unsupervised Anomaly Detection with Generative
Adversarial Networks* (2019), in the size of Baur et al. 2021 (arXiv 2004.03271). For ``gan_epochs`` epochs a generator
G learns to map z ~ N(0, 1) to slices, against a Wasserstein critic with gradient penalty (``critic_steps`` steps per
batch, each with fresh z). Then both are frozen, and the encoder E minimises izi_f:

    mean (x − G(E(x)))² + kappa · mean (f(x) − f(G(E(x))))²

where f are the features of the critic. It has no norms (``uadtk.networks.critics``), and the scale of its features
changes in training; here f is scaled so that the mean square of f(x) is that of x, and ``kappa`` of 1 weighs both terms
alike. The validation loss is the same; it counts from the first epoch of the second stage. The study's code stops by
Σ|x − x̂| instead; it also takes the norm of the penalty's gradient over one axis of the image, which here is over the
whole image.

As in both codes, z = E(x) lies in (−1, 1) although G was trained on N(0, 1) (``bounded=false`` removes the limit), and
G's output lies in (0, 1) although the brightest 2 % of a brain exceed 1. ``ending=identity`` can reach these, but the
untrained critic then drives G far away, and it takes long to return. ``network=resnet`` is the original except for its
norms; the original used slices of 64 pixels, batches of 64, and RMSProp at 5e-5 for the encoder in place of Adam. The
length of the first stage is inferred: in the study it is the maximum number of epochs of the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from uadtk.networks.adversaries import critic_turn, generated, generator_turn
from uadtk.networks.critics import ImageCritic
from uadtk.networks.distances import l2
from uadtk.networks.generators import (
    ResidualCritic,
    ResidualEncoder,
    ResidualGenerator,
    UnifiedEncoder,
    UnifiedGenerator,
)
from uadtk.plugin import Batch, Turn, option

NETWORKS: dict[str, tuple[Any, Any, Any]] = {
    "unified": (UnifiedEncoder, UnifiedGenerator, ImageCritic),
    "resnet": (ResidualEncoder, ResidualGenerator, ResidualCritic),
}


@dataclass(frozen=True)
class Options:
    latent: int = option(128, "Dimension of z.", ge=1, le=4096)
    gan_epochs: int = option(100, "Epochs of the GAN; the encoder is trained after them.", ge=1)
    kappa: float = option(1.0, "Weight of the feature-matching loss.", ge=0)
    bounded: bool = option(True, "Limit the encoder's z to (-1, 1).")
    ending: Literal["sigmoid", "identity"] = option("sigmoid", "Generated slices lie in (0, 1), or are unbounded.")
    network: Literal["unified", "resnet"] = option("unified", "Networks of the study, or the original residual ones.")
    critic_steps: int = option(5, "Steps of the critic per batch.", ge=1)
    penalty: float = option(10.0, "Weight of the critic's gradient penalty.", ge=0)


class Model(nn.Module):
    Options = Options
    betas = (0.5, 0.9)

    def __init__(self, options: Options, side: int) -> None:
        super().__init__()
        self.options = options
        encoder, generator, critic = NETWORKS[options.network]
        self.encoder = nn.Sequential(encoder(side, options.latent), nn.Tanh() if options.bounded else nn.Identity())
        end = nn.Sigmoid() if options.ending == "sigmoid" else nn.Identity()
        self.generator = nn.Sequential(generator(side, options.latent), end)
        self.critic = critic(side)
        self.judged_from = options.gan_epochs + 1

    def players(self) -> dict[str, list[nn.Parameter]]:
        networks = {"critic": self.critic, "generator": self.generator, "encoder": self.encoder}
        return {name: list(network.parameters()) for name, network in networks.items()}

    def turns(self, epoch: int) -> list[Turn]:
        if epoch > self.options.gan_epochs:
            return [Turn("encoder", self.training_loss)]
        return [
            critic_turn(self.critic, self._generated, self.options.critic_steps, self.options.penalty),
            generator_turn(self.critic, self._generated),
        ]

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        """izi_f; without meaning in the first stage, when the encoder is untrained."""
        image, features = self._distances(batch.image, batch.target, batch.normal)
        loss = image + self.options.kappa * features
        return {"loss": loss.mean(), "image": image.mean(), "features": features.mean()}

    def _generated(self, batch: Batch) -> Tensor:
        return generated(self.generator, self.options.latent, batch)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.generator(self.encoder(x))

    def objective(self, x: Tensor) -> Tensor:
        """izi_f per slice."""
        image, features = self._distances(x, x)
        return image + self.options.kappa * features

    def _distances(self, x: Tensor, target: Tensor, normal: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean squared difference between ``target`` and the reconstruction, and between their features; both (B,)."""
        rebuilt = self.reconstruct(x)
        image = l2(target, rebuilt, normal) / x[0].numel()
        if normal is not None:
            target, rebuilt = target * normal, rebuilt * normal
        features = self.critic.features(target)
        apart = _mean_square(features - self.critic.features(rebuilt))
        scale = _mean_square(target) / _mean_square(features).clamp(min=1e-12)
        return image, scale.detach() * apart


def _mean_square(x: Tensor) -> Tensor:
    """(B,)."""
    return x.square().flatten(1).mean(1)
