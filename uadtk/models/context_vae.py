"""Context VAE: a variational autoencoder that also learns to inpaint squares cut out of the brain.

Zimmerer, Kohl, Petersen, Isensee, Maier-Hein: *Context-encoding Variational Autoencoder for Unsupervised Anomaly
Detection* (2018), as in Baur et al. 2021 (arXiv 2004.03271). The loss is that of ``vae`` plus Σ|x − x̂_c|, where x̂_c is
the reconstruction, from the mean of z, of the image with 1 to 3 squares set to 0, at different places in every slice.
The target is the original image, as in Zimmerer's paper; in the study's code it is the cut image, which teaches no
inpainting. Nothing is cut out in validation.

Zimmerer's weight of the KL divergence, 0.01, belongs with a mean over the pixels, not a sum. Dropout, ``inference``,
``sample`` and ``network`` as in ``vae``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uadtk.networks.context import cut_squares
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
    context_weight: float = option(1.0, "Weight of the inpainting loss.", ge=0)
    squares: int = option(3, "Maximum number of squares cut out.", ge=1, le=20)
    edge: float = option(20 / 128, "Edge of a square as a fraction of the slice's (20 of 128 pixels).", ge=0.01, le=1)


class Model(nn.Module):
    Options = Options
    noise: Tensor

    def __init__(self, options: Options, side: int) -> None:
        super().__init__()
        self.options = options
        self.edge = max(1, round(options.edge * side))
        network = ZimmererAutoencoder if options.network == "zimmerer" else DenseAutoencoder
        self.net = network(side, options.latent, heads=2)
        with seeded(0):
            self.register_buffer("noise", torch.randn(options.latent), persistent=False)

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        dropout = self.options.dropout if self.training else 0.0
        mean, log_std = (F.dropout(head, dropout) for head in self.net.encode(batch.image))
        rebuilt = self.net.decode(sampled(mean, log_std), dropout)
        cut = batch.image
        if self.training:
            cut = cut_squares(cut, batch.brain, self.options.squares, self.edge)
        filled = self.net.decode(F.dropout(self.net.encode(cut)[0], dropout), dropout)
        losses = {
            "reconstruction": l1(batch.target, rebuilt, batch.normal).mean(),
            "kl": gaussian_kl(mean, log_std).mean(),
            "context": l1(batch.target, filled, batch.normal).mean(),
        }
        weighted = self.options.kl_weight * losses["kl"] + self.options.context_weight * losses["context"]
        return {"loss": losses["reconstruction"] + weighted, **losses}

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
