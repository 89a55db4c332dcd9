"""Adversarial autoencoder: a critic keeps the distribution of z close to a standard normal.

Makhzani, Shlens, Jaitly, Goodfellow, Frey: *Adversarial Autoencoders* (2015, arXiv 1511.05644), as implemented in the
code of Baur et al. 2021 (arXiv 2004.03271), whose tables omit it: the network of ``ae``, with a Wasserstein critic and
gradient penalty in place of the paper's discriminator. Each batch trains the autoencoder on its reconstruction
(``warm_up`` steps in the first 6 epochs), the critic to distinguish z from draws from N(0, 1) (``critic_steps`` steps),
and the encoder to raise the critic's value of z (one step). Each has its own Adam, which normalises gradients; the
adversarial loss therefore needs no weight relative to an error summed over pixels.

``loss=l1`` is Σ|x − x̂|, as in the other models of the study; ``loss=l2`` is the mean squared error of its code. That
code excludes the linear map to z from the encoder's adversarial step and evaluates the penalty beyond the real and fake
points; here every layer up to z is trained, and the points lie between real and fake. Dropout as in ``ae``. Inferred:
validation starts at epoch 7, because before that the autoencoder takes twenty steps for each adversarial one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from uadtk.networks.adversaries import WARM_UP_EPOCHS, latent_players, latent_turns
from uadtk.networks.critics import LatentCritic
from uadtk.networks.dense import DenseAutoencoder, dropout_samples, rebuild
from uadtk.networks.distances import l1, l2
from uadtk.plugin import Batch, Turn, option


@dataclass(frozen=True)
class Options:
    latent: int = option(128, "Dimension of z.", ge=1, le=4096)
    dropout: float = option(0.2, "Dropout rate of z in samples.", ge=0, le=0.9)
    loss: Literal["l1", "l2"] = option("l1", "Reconstruction error: summed l1 (paper) or mean squared error (code).")
    warm_up: int = option(20, "Steps of the autoencoder per batch in the first 6 epochs; 1 afterwards.", ge=1)
    critic_steps: int = option(20, "Steps of the critic per batch.", ge=1)
    penalty: float = option(10.0, "Weight of the critic's gradient penalty.", ge=0)


class Model(nn.Module):
    Options = Options
    quick: ClassVar = {"warm_up": 2, "critic_steps": 10}  # with fewer, z outruns the critic
    betas = (0.5, 0.9)
    judged_from = WARM_UP_EPOCHS + 1

    def __init__(self, options: Options, side: int) -> None:
        super().__init__()
        self.options = options
        self.net = DenseAutoencoder(side, options.latent)
        self.critic = LatentCritic(options.latent, (50, 50))
        self.lacks = () if options.dropout else ("sample",)

    def players(self) -> dict[str, list[nn.Parameter]]:
        return latent_players(self.net, self.critic)

    def turns(self, epoch: int) -> list[Turn]:
        times = self.options.warm_up if epoch <= WARM_UP_EPOCHS else 1
        adversary = latent_turns(self.net, self.critic, self.options.critic_steps, self.options.penalty)
        return [Turn("autoencoder", self.training_loss, times), *adversary]

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        rebuilt = rebuild(self.net, batch.image)
        return {"loss": self._distance(batch.target, rebuilt, batch.normal).mean()}

    def reconstruct(self, x: Tensor) -> Tensor:
        return rebuild(self.net, x)

    def sample(self, x: Tensor, n: int) -> Tensor:
        return dropout_samples(self.net, x, n, self.options.dropout)

    def objective(self, x: Tensor) -> Tensor:
        """The reconstruction error of each slice, as in training."""
        return self._distance(x, self.reconstruct(x))

    def _distance(self, x: Tensor, rebuilt: Tensor, normal: Tensor | None = None) -> Tensor:
        if self.options.loss == "l1":
            return l1(x, rebuilt, normal)
        return l2(x, rebuilt, normal) / x[0].numel()
