"""Spatial autoencoder: the latent z is a feature map, 128 channels of 8 x 8.

"AE (spatial)" of Baur et al. 2021 (arXiv 2004.03271). Loss and dropout as in ``ae``. The figure in the paper replaces
the dense bottleneck by one convolution (here 1x1); the authors' code has no bottleneck layer at all:
``convolution=false``.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from uadtk.networks.dense import dropout_samples, halvings, rebuild
from uadtk.networks.distances import l1
from uadtk.networks.unified import Decoder, Encoder, glorot
from uadtk.plugin import Batch, option


@dataclass(frozen=True)
class Options:
    convolution: bool = option(True, "Compute z by a 1x1 convolution (paper), or use the encoder's output (code).")
    dropout: float = option(0.2, "Dropout rate of z in samples.", ge=0, le=0.9)


class Model(nn.Module):
    Options = Options

    def __init__(self, options: Options, side: int) -> None:
        super().__init__()
        self.options = options
        n = halvings(side)
        self.encoder, self.decoder = Encoder(n), Decoder(n)
        channels = self.encoder.channels
        self.latent = nn.Conv2d(channels, channels, 1).apply(glorot) if options.convolution else nn.Identity()
        self.lacks = () if options.dropout else ("sample",)

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        rebuilt = rebuild(self, batch.image)
        return {"loss": l1(batch.target, rebuilt, batch.normal).mean()}

    def reconstruct(self, x: Tensor) -> Tensor:
        return rebuild(self, x)

    def sample(self, x: Tensor, n: int) -> Tensor:
        return dropout_samples(self, x, n, self.options.dropout)

    def objective(self, x: Tensor) -> Tensor:
        """Σ|x − x̂| per slice."""
        return l1(x, self.reconstruct(x))

    def encode(self, x: Tensor) -> list[Tensor]:
        return [self.latent(self.encoder(x))]

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z)
