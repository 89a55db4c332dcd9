"""Adversarial autoencoder: a critic sees to it that z is distributed like a standard normal.

Makhzani, Shlens, Jaitly, Goodfellow, Frey: *Adversarial Autoencoders* (2015, arXiv 1511.05644), the way the code of
Baur et al. 2021 (arXiv 2004.03271) has it, whose tables leave it out: the network of ``ae``, and for the paper's
discriminator a Wasserstein critic with a gradient penalty. On every batch the autoencoder learns to reconstruct (in
the first 6 epochs ``warm_up`` times), the critic ``critic_steps`` times to tell z from fresh draws from N(0, 1), and
the encoder once to raise what the critic says of z. Each has an Adam of its own, which divides by the size of its
gradient: so the adversary needs no weight beside an error summed over pixels.

``loss=l1`` is Σ|x − x̂|, as in the other models of the study; ``loss=l2`` is what its code has here, the mean of
squares. That code leaves the linear map to z out of the encoder's adversarial step, and takes the penalty at points
beyond real and fake; here everything that leads to z learns, and the points lie between. Inferred: dropout is for the
decoder alone, since zeros in z would give it away to the critic; and training is judged from epoch 7, as before it the
reconstruction has twenty steps for each of the adversary's.
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
    latent: int = option(128, "Numbers in z.", ge=1, le=4096)
    dropout: float = option(0.2, "Share of z dropped in training and for samples.", ge=0, le=0.9)
    loss: Literal["l1", "l2"] = option("l1", "Reconstruction error: summed l1 (paper) or mean squares (code).")
    warm_up: int = option(20, "Steps of the autoencoder per batch in the first 6 epochs; then 1.", ge=1)
    critic_steps: int = option(20, "Steps of the critic per batch.", ge=1)
    penalty: float = option(10.0, "Weight of the critic's gradient penalty.", ge=0)


class Model(nn.Module):
    Options = Options
    quick: ClassVar = {"warm_up": 2, "critic_steps": 2}
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
        rebuilt = rebuild(self.net, batch.image, self.options.dropout if self.training else 0.0)
        return {"loss": self._distance(batch.image, rebuilt, batch.normal).mean()}

    def reconstruct(self, x: Tensor) -> Tensor:
        return rebuild(self.net, x)

    def sample(self, x: Tensor, n: int) -> Tensor:
        return dropout_samples(self.net, x, n, self.options.dropout)

    def objective(self, x: Tensor) -> Tensor:
        """The reconstruction error that training minimises, per slice."""
        return self._distance(x, self.reconstruct(x))

    def _distance(self, x: Tensor, rebuilt: Tensor, normal: Tensor | None = None) -> Tensor:
        if self.options.loss == "l1":
            return l1(x, rebuilt, normal)
        return l2(x, rebuilt, normal) / x[0].numel()
