"""Context autoencoder: an autoencoder that learns to inpaint squares cut out of the brain.

"Context AE" of Baur et al. 2021 (arXiv 2004.03271) after Zimmerer et al. 2018. In training, 1 to 3 squares of the input
are set to 0, at different places in every slice (the authors' code cuts the squares of the last slice out of the whole
batch), and the target is the original image. Nothing is cut out in validation and scoring.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from uadtk.networks.context import cut_squares
from uadtk.networks.dense import DenseAutoencoder, dropout_samples, rebuild
from uadtk.networks.distances import l1
from uadtk.plugin import Batch, option


@dataclass(frozen=True)
class Options:
    latent: int = option(128, "Dimension of z.", ge=1, le=4096)
    dropout: float = option(0.2, "Dropout rate of z in samples.", ge=0, le=0.9)
    squares: int = option(3, "Maximum number of squares cut out.", ge=1, le=20)
    edge: float = option(20 / 128, "Edge of a square as a fraction of the slice's (20 of 128 pixels).", ge=0.01, le=1)


class Model(nn.Module):
    Options = Options

    def __init__(self, options: Options, side: int) -> None:
        super().__init__()
        self.options = options
        self.edge = max(1, round(options.edge * side))
        self.net = DenseAutoencoder(side, options.latent)
        self.lacks = () if options.dropout else ("sample",)

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        seen = batch.image
        if self.training:
            seen = cut_squares(seen, batch.brain, self.options.squares, self.edge)
        rebuilt = rebuild(self.net, seen)
        return {"loss": l1(batch.target, rebuilt, batch.normal).mean()}

    def reconstruct(self, x: Tensor) -> Tensor:
        return rebuild(self.net, x)

    def sample(self, x: Tensor, n: int) -> Tensor:
        return dropout_samples(self.net, x, n, self.options.dropout)

    def objective(self, x: Tensor) -> Tensor:
        """Σ|x − x̂| per slice."""
        return l1(x, self.reconstruct(x))
