"""Autoencoder: healthy slices squeezed through a vector of 128 numbers.

"AE (dense)" of Baur, Denner, Wiestler, Navab, Albarqouni: *Autoencoders for Unsupervised Anomaly Segmentation in Brain
MR Images: A Comparative Study* (2021, arXiv 2004.03271). The loss is the sum of |x − x̂| over the pixels, the mean over
the batch. Dropout is on z only; left on at test time (``sample``) it makes the Bayesian AE of that study.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uadtk.networks.dense import DenseAutoencoder
from uadtk.networks.distances import l1
from uadtk.plugin import Batch, option


@dataclass(frozen=True)
class Options:
    latent: int = option(128, "Numbers in z.", ge=1, le=4096)
    dropout: float = option(0.2, "Share of z dropped in training and for samples.", ge=0, le=0.9)


class Model(nn.Module):
    Options = Options

    def __init__(self, options: Options, side: int) -> None:
        super().__init__()
        self.options = options
        self.net = DenseAutoencoder(side, options.latent)
        if not options.dropout:
            self.sample = None  # type: ignore[method-assign, assignment]  # nothing random: no samples to offer

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        (z,) = self.net.encode(batch.image)
        rebuilt = self.net.decode(F.dropout(z, self.options.dropout, self.training))
        return {"loss": l1(batch.image, rebuilt, batch.normal).mean()}

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.net.decode(self.net.encode(x)[0])

    def sample(self, x: Tensor, n: int) -> Tensor:
        (z,) = self.net.encode(x)
        return torch.stack([self.net.decode(F.dropout(z, self.options.dropout)) for _ in range(n)])

    def objective(self, x: Tensor) -> Tensor:
        """Σ|x − x̂| per slice."""
        return l1(x, self.reconstruct(x))
