"""Autoencoder: reconstruction of healthy slices through a latent vector of 128 numbers.

"AE (dense)" of Baur, Denner, Wiestler, Navab, Albarqouni: *Autoencoders for Unsupervised Anomaly Segmentation in Brain
MR Images: A Comparative Study* (2021, arXiv 2004.03271). The loss is Σ|x − x̂| over the pixels, averaged over the batch.
Dropout is applied to z only; kept on at test time (``sample``), it gives the Bayesian AE of that study.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from uadtk.networks.dense import DenseAutoencoder, dropout_samples, rebuild
from uadtk.networks.distances import l1
from uadtk.plugin import Batch, option


@dataclass(frozen=True)
class Options:
    latent: int = option(128, "Dimension of z.", ge=1, le=4096)
    dropout: float = option(0.2, "Dropout rate of z, in training and for samples.", ge=0, le=0.9)


class Model(nn.Module):
    Options = Options

    def __init__(self, options: Options, side: int) -> None:
        super().__init__()
        self.options = options
        self.net = DenseAutoencoder(side, options.latent)
        self.lacks = () if options.dropout else ("sample",)

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        rebuilt = rebuild(self.net, batch.image, self.options.dropout if self.training else 0.0)
        return {"loss": l1(batch.image, rebuilt, batch.normal).mean()}

    def reconstruct(self, x: Tensor) -> Tensor:
        return rebuild(self.net, x)

    def sample(self, x: Tensor, n: int) -> Tensor:
        return dropout_samples(self.net, x, n, self.options.dropout)

    def objective(self, x: Tensor) -> Tensor:
        """Σ|x − x̂| per slice."""
        return l1(x, self.reconstruct(x))
