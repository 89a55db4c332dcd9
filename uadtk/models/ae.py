"""Autoencoder: reconstruction of healthy slices through a latent vector of 128 numbers.

"AE (dense)" of Baur, Denner, Wiestler, Navab, Albarqouni: *Autoencoders for Unsupervised Anomaly Segmentation in Brain
MR Images: A Comparative Study* (2021, arXiv 2004.03271). The loss is Σ|x − x̂| over the pixels, averaged over the batch.

Dropout on z at test time (``sample``) gives the Bayesian AE of that study. Its text applies dropout there only, and so
do we; its code trains with dropout, too, which would make the AE differ from the VAE in more than the latent.

``neighbours`` is the 2.5-D form that the thesis leaves to future work: the encoder sees the adjacent slices as further
channels, and the slice itself is reconstructed. Slices are then no longer independent, so there are neither samples nor
an objective, and the score is a residual.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from uadtk.networks.dense import DenseAutoencoder, dropout_samples, rebuild
from uadtk.networks.distances import l1
from uadtk.networks.neighbours import with_neighbours
from uadtk.plugin import Batch, option


@dataclass(frozen=True)
class Options:
    latent: int = option(128, "Dimension of z.", ge=1, le=4096)
    dropout: float = option(0.2, "Dropout rate of z in samples.", ge=0, le=0.9)
    neighbours: int = option(0, "Adjacent slices on each side that the encoder sees, too.", ge=0, le=8)


class Model(nn.Module):
    Options = Options

    def __init__(self, options: Options, side: int) -> None:
        super().__init__()
        self.options, self.neighbours = options, options.neighbours
        self.net = DenseAutoencoder(side, options.latent, seen=1 + 2 * options.neighbours)
        self.lacks = ("sample", "objective") if options.neighbours else () if options.dropout else ("sample",)

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        rebuilt = rebuild(self.net, batch.image)
        return {"loss": l1(batch.target, rebuilt, batch.normal).mean()}

    def reconstruct(self, x: Tensor) -> Tensor:
        """Of consecutive slices of a scan, or of slices that come with their neighbours."""
        return rebuild(self.net, with_neighbours(x, self.neighbours) if x.shape[1] == 1 else x)

    def sample(self, x: Tensor, n: int) -> Tensor:
        return dropout_samples(self.net, x, n, self.options.dropout)

    def objective(self, x: Tensor) -> Tensor:
        """Σ|x − x̂| per slice."""
        return l1(x, self.reconstruct(x))
