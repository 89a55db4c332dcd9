"""AnoVAEGAN: a variational autoencoder whose decoder is also trained against a critic of images.

Baur et al. 2021 (arXiv 2004.03271), after Baur, Wiestler, Albarqouni, Navab: *Deep Autoencoding Models for Unsupervised
Anomaly Segmentation in Brain MR Images* (2018). Two players are trained on every batch: the autoencoder minimises
Σ|x − x̂| + kl_weight · KL − adversarial · D(x̂); and the critic D, a Wasserstein critic with gradient penalty, learns to
distinguish x from x̂ in ``critic_steps`` steps. The only fake images are reconstructions; none are drawn from the prior.
The validation loss is that of ``vae``.

There are two departures from the study's code, with which the error stayed at four times that of the mean image (200
steps on the phantom at 32 pixels). There the decoder takes a second step per batch to raise D(x̂), with an Adam of its
own, whose steps are as long however small the gradient; here ``adversarial`` weighs D(x̂), and its value of 4 is
inferred. There the decoder has layer norms; here it has none, as in the study's text.

How much the critic acts depends on the size of slices: its slope is about 1 by the penalty, and Σ|x − x̂| has one of ±1
in every pixel, so that the critic's share of the pull on x̂ is about adversarial / side, 1/32 at 128 pixels. On the demo
phantom at 32 pixels (``benchmarks/adversarial_weight.py``, 3 seeds) sharpness and error at 4 were within the spread of
those without a critic, and at 40 two of three were too sharp and worse than the mean image. At the default the model is
therefore close to ``vae``; no weight between the two has been chosen by measurement.

The study's text measures reconstructions by the critic's features (after Larsen et al. 2016). Its code computes that
distance without using it, and it is omitted here. The code also takes the norm of the penalty's gradient over one axis
of the image; here it is over the whole image. There is no dropout by default, as in ``vae``; that of the code acts in
training on the mean and log σ of z and not on the decoder, in every player's turn (inferred). In the 2018 paper z is a
feature map, 64 channels of 16 x 16 for slices of 256 pixels: ``bottleneck=spatial``, here at 8 x 8; in the study it is
a vector.

The authors' code reconstructs from one draw of z; here it is the mean, and ``sample`` draws z without dropout.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uadtk.networks.adversaries import critic_turn
from uadtk.networks.critics import ImageCritic
from uadtk.networks.distances import l1
from uadtk.networks.generators import SpatialEncoder, SpatialGenerator, UnifiedEncoder, UnifiedGenerator
from uadtk.networks.unified import LOG_STD, gaussian_kl, sampled
from uadtk.plugin import Batch, Turn, option

NETWORKS: dict[str, tuple[Any, Any]] = {
    "dense": (UnifiedEncoder, partial(UnifiedGenerator, normed=False)),
    "spatial": (SpatialEncoder, SpatialGenerator),
}


@dataclass(frozen=True)
class Options:
    bottleneck: Literal["dense", "spatial"] = option("dense", "Latent vector (study) or map (2018 paper).")
    latent: int = option(128, "Latent numbers (dense) or channels at 8 x 8 (spatial).", ge=1, le=4096)
    dropout: float = option(0.0, "Dropout rate of z in training (code: 0.2).", ge=0, le=0.9)
    kl_weight: float = option(1.0, "Weight of the KL divergence.", ge=0)
    adversarial: float = option(4.0, "Weight of the critic's value of reconstructions.", ge=0)
    critic_steps: int = option(5, "Steps of the critic per batch.", ge=1)
    penalty: float = option(10.0, "Weight of the critic's gradient penalty.", ge=0)


class Model(nn.Module):
    Options = Options
    betas = (0.5, 0.9)

    def __init__(self, options: Options, side: int) -> None:
        super().__init__()
        self.options = options
        encoder, generator = NETWORKS[options.bottleneck]
        self.encoder = encoder(side, 2 * options.latent)
        nn.init.constant_(self.encoder[-1].bias[options.latent :], LOG_STD)
        self.generator = generator(side, options.latent)
        self.critic = ImageCritic(side)

    def players(self) -> dict[str, list[nn.Parameter]]:
        autoencoder = [*self.encoder.parameters(), *self.generator.parameters()]
        return {"autoencoder": autoencoder, "critic": list(self.critic.parameters())}

    def turns(self, epoch: int) -> list[Turn]:
        return [
            Turn("autoencoder", self._adversarial_loss),
            critic_turn(self.critic, self._drawn, self.options.critic_steps, self.options.penalty, self._encoded),
        ]

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        return self._losses(batch)[0]

    def _adversarial_loss(self, batch: Batch) -> dict[str, Tensor]:
        losses, rebuilt = self._losses(batch)
        value = self.critic(rebuilt * batch.normal).mean()
        return {**losses, "loss": losses["loss"] - self.options.adversarial * value, "value": value}

    def _losses(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Losses of one draw of z, and its reconstruction."""
        mean, log_std = self._encode(batch.image)
        rebuilt = self.generator(sampled(mean, log_std))
        reconstruction, kl = l1(batch.target, rebuilt, batch.normal).mean(), gaussian_kl(mean, log_std).mean()
        loss = reconstruction + self.options.kl_weight * kl
        return {"loss": loss, "reconstruction": reconstruction, "kl": kl}, rebuilt

    def _encoded(self, batch: Batch) -> Tensor:
        encoded: Tensor = self.encoder(batch.image)
        return encoded

    def _drawn(self, batch: Batch, encoded: Tensor | None = None) -> Tensor:
        """Reconstructions from one draw of z, 0 where slices are not ``normal``."""
        mean, log_std = self._latent(self._encoded(batch) if encoded is None else encoded)
        return self.generator(sampled(mean, log_std)) * batch.normal

    def reconstruct(self, x: Tensor) -> Tensor:
        mean, _ = self._encode(x)
        return self.generator(mean)

    def sample(self, x: Tensor, n: int) -> Tensor:
        mean, log_std = self._encode(x)
        return torch.stack([self.generator(sampled(mean, log_std)) for _ in range(n)])

    def objective(self, x: Tensor) -> Tensor:
        """Σ|x − x̂| + kl_weight · KL per slice, at the mean of z: the negative evidence lower bound."""
        mean, log_std = self._encode(x)
        return l1(x, self.generator(mean)) + self.options.kl_weight * gaussian_kl(mean, log_std)

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log σ of z, both (B, latent) or (B, latent, 8, 8)."""
        return self._latent(self.encoder(x))

    def _latent(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """The same from the encoder's output."""
        mean, log_std = F.dropout(encoded.unflatten(1, (2, -1)), self.options.dropout, self.training).unbind(1)
        return mean, log_std
