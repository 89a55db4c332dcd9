"""Constrained adversarial autoencoder: image and reconstruction share a latent that is close to a standard normal.

Chen, Konukoglu: *Unsupervised Detection of Lesions in Brain MRI using constrained adversarial auto-encoders* (2018,
arXiv 1806.04972), in the size of the comparative study of Baur et al. 2021 (arXiv 2004.03271): ``constrained-ae``, with
gradients through both passes of the encoder, plus the critic, players and turns of ``aae``. As there, each player's own
Adam makes a weight of the adversarial loss unnecessary, every layer up to z learns from the critic, and validation
starts at epoch 7 (inferred). Dropout as in ``constrained-ae``.

``loss=l1`` follows the study's text: Σ|x − x̂| + weight · Σ(z(x̂) − z)². ``loss=l2`` follows its code: means of squares
in place of both sums, with ``weight=1``. ``loss=norm`` follows the authors' code: √Σ(x − x̂)² in place of Σ|x − x̂|; it
belongs with ``weight=0.5``, ``warm_up=1``, ``network=chen`` (their residual network and larger critic), batches of 64
and a learning rate of 2e-5. Their critic takes ten times as many steps in the first 20 epochs; here it does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from uadtk.networks.adversaries import WARM_UP_EPOCHS, latent_players, latent_turns
from uadtk.networks.critics import LatentCritic
from uadtk.networks.dense import DenseAutoencoder, dropout_samples, rebuild
from uadtk.networks.distances import l1, l2
from uadtk.networks.residual_blocks import ResidualAutoencoder
from uadtk.plugin import Batch, Turn, option


@dataclass(frozen=True)
class Options:
    latent: int = option(128, "Dimension of z.", ge=1, le=4096)
    dropout: float = option(0.2, "Dropout rate of z in samples.", ge=0, le=0.9)
    loss: Literal["l1", "l2", "norm"] = option("l1", "Summed l1 (paper), mean squared error (code) or l2 norm (Chen).")
    weight: float = option(30.0, "Weight of the distance between the two latents.", ge=0)
    network: Literal["unified", "chen"] = option("unified", "Network of the study, or the original residual network.")
    warm_up: int = option(20, "Steps of the autoencoder per batch in the first 6 epochs; 1 afterwards.", ge=1)
    critic_steps: int = option(20, "Steps of the critic per batch.", ge=1)
    penalty: float = option(10.0, "Weight of the critic's gradient penalty.", ge=0)


class Model(nn.Module):
    Options = Options
    quick: ClassVar = {"warm_up": 2, "critic_steps": 10}  # with fewer, z outruns the critic
    betas = (0.5, 0.9)
    judged_from = WARM_UP_EPOCHS + 1
    net: DenseAutoencoder | ResidualAutoencoder

    def __init__(self, options: Options, side: int) -> None:
        super().__init__()
        self.options = options
        if options.network == "chen":
            self.net = ResidualAutoencoder(side, options.latent)
            self.critic = LatentCritic(options.latent, (200, 400))
        else:
            self.net = DenseAutoencoder(side, options.latent)
            self.critic = LatentCritic(options.latent, (100, 50))
        self.lacks = () if options.dropout else ("sample",)

    def players(self) -> dict[str, list[nn.Parameter]]:
        return latent_players(self.net, self.critic)

    def turns(self, epoch: int) -> list[Turn]:
        times = self.options.warm_up if epoch <= WARM_UP_EPOCHS else 1
        adversary = latent_turns(self.net, self.critic, self.options.critic_steps, self.options.penalty)
        return [Turn("autoencoder", self.training_loss, times), *adversary]

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        reconstruction, latent = self._distances(batch.image, batch.target, batch.normal)
        loss = reconstruction + self.options.weight * latent
        return {"loss": loss.mean(), "reconstruction": reconstruction.mean(), "latent": latent.mean()}

    def reconstruct(self, x: Tensor) -> Tensor:
        return rebuild(self.net, x)

    def sample(self, x: Tensor, n: int) -> Tensor:
        return dropout_samples(self.net, x, n, self.options.dropout)

    def objective(self, x: Tensor) -> Tensor:
        """The autoencoder's loss of each slice."""
        reconstruction, latent = self._distances(x, x)
        return reconstruction + self.options.weight * latent

    def _distances(self, x: Tensor, target: Tensor, normal: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Distance of the reconstruction from ``target``, and of its latent from that of ``x``; both (B,)."""
        (z,) = self.net.encode(x)
        rebuilt = self.net.decode(z)
        (again,) = self.net.encode(rebuilt)
        latent = (again - z).square()
        if self.options.loss == "l1":
            return l1(target, rebuilt, normal), latent.sum(1)
        if self.options.loss == "norm":
            return (l2(target, rebuilt, normal) + 1e-8).sqrt(), latent.sum(1)
        return l2(target, rebuilt, normal) / x[0].numel(), latent.mean(1)
