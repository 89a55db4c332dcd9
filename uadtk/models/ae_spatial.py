"""Spatial autoencoder: the latent z keeps its place, 128 channels of 8 x 8.

"AE (spatial)" of Baur et al. 2021 (arXiv 2004.03271). Loss and dropout as in ``ae``. The paper's figure replaces the
dense bottleneck by one set of convolution kernels (here 1x1); the authors' code has no bottleneck layer at all:
``convolution=false``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uadtk.networks.dense import halvings
from uadtk.networks.distances import l1
from uadtk.networks.unified import Decoder, Encoder, glorot
from uadtk.plugin import Batch, option


@dataclass(frozen=True)
class Options:
    convolution: bool = option(True, "A 1x1 convolution gives z (paper); without, the encoder's output is z (code).")
    dropout: float = option(0.2, "Share of z dropped in training and for samples.", ge=0, le=0.9)


class Model(nn.Module):
    Options = Options

    def __init__(self, options: Options, side: int) -> None:
        super().__init__()
        self.options = options
        n = halvings(side)
        self.encoder, self.decoder = Encoder(n), Decoder(n)
        channels = self.encoder.channels
        self.latent = nn.Conv2d(channels, channels, 1).apply(glorot) if options.convolution else nn.Identity()
        if not options.dropout:
            self.sample = None  # type: ignore[method-assign, assignment]  # nothing random: no samples to offer

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        z = self._encode(batch.image)
        rebuilt = self.decoder(F.dropout(z, self.options.dropout, self.training))
        return {"loss": l1(batch.image, rebuilt, batch.normal).mean()}

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decoder(self._encode(x))

    def sample(self, x: Tensor, n: int) -> Tensor:
        z = self._encode(x)
        return torch.stack([self.decoder(F.dropout(z, self.options.dropout)) for _ in range(n)])

    def objective(self, x: Tensor) -> Tensor:
        """Σ|x − x̂| per slice."""
        return l1(x, self.reconstruct(x))

    def _encode(self, x: Tensor) -> Tensor:
        return self.latent(self.encoder(x))
