"""Variational autoencoder: the latent is a distribution, kept close to a standard normal.

"VAE" of Baur et al. 2021 (arXiv 2004.03271), after Kingma & Welling 2013. Loss: Σ|x − x̂| + kl_weight · KL, both summed
(over pixels, over z) and averaged over the batch.

There is no dropout in training: the study's rate of 0.2 (its Table II) is that of the Bayesian AE's samples. The
authors' code trains with it: ``dropout=0.2``. It acts on the mean and log σ of z, so that a dropped number is a draw
from N(0, 1), and on the first layer of the decoder.

The authors' code reconstructs from one draw of z; here it is the mean, unless ``inference=sample``, which uses one draw
with the same noise for all slices, so that results are reproducible. ``sample`` draws z independently, without dropout
(the authors' code keeps it). ``network=zimmerer`` is the larger network of Zimmerer et al. 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uadtk.networks.dense import DenseAutoencoder, ZimmererAutoencoder
from uadtk.networks.distances import l1
from uadtk.networks.seeded import seeded
from uadtk.networks.unified import gaussian_kl, sampled
from uadtk.plugin import Batch, option


@dataclass(frozen=True)
class Options:
    latent: int = option(128, "Dimension of z.", ge=1, le=4096)
    dropout: float = option(0.0, "Dropout rate in training (code: 0.2).", ge=0, le=0.9)
    kl_weight: float = option(1.0, "Weight of the KL divergence.", ge=0)
    inference: Literal["mean", "sample"] = option("mean", "Reconstruct from the mean of z or from one draw.")
    network: Literal["unified", "zimmerer"] = option("unified", "Network of the study, or the larger original.")


class Model(nn.Module):
    Options = Options
    noise: Tensor

    def __init__(self, options: Options, side: int) -> None:
        super().__init__()
        self.options = options
        network = ZimmererAutoencoder if options.network == "zimmerer" else DenseAutoencoder
        self.net = network(side, options.latent, heads=2)
        with seeded(0):
            self.register_buffer("noise", torch.randn(options.latent), persistent=False)

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        dropout = self.options.dropout if self.training else 0.0
        mean, log_std = (F.dropout(head, dropout) for head in self.net.encode(batch.image))
        rebuilt = self.net.decode(sampled(mean, log_std), dropout)
        reconstruction = l1(batch.target, rebuilt, batch.normal).mean()
        kl = gaussian_kl(mean, log_std).mean()
        return {"loss": reconstruction + self.options.kl_weight * kl, "reconstruction": reconstruction, "kl": kl}

    def reconstruct(self, x: Tensor) -> Tensor:
        return self._through(x)[0]

    def sample(self, x: Tensor, n: int) -> Tensor:
        mean, log_std = self.net.encode(x)
        return torch.stack([self.net.decode(sampled(mean, log_std)) for _ in range(n)])

    def objective(self, x: Tensor) -> Tensor:
        """Σ|x − x̂| + kl_weight · KL per slice: the negative evidence lower bound."""
        rebuilt, kl = self._through(x)
        return l1(x, rebuilt) + self.options.kl_weight * kl

    def _through(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction, and the KL divergence (B,)."""
        mean, log_std = self.net.encode(x)
        z = mean if self.options.inference == "mean" else mean + log_std.exp() * self.noise
        return self.net.decode(z), gaussian_kl(mean, log_std)
