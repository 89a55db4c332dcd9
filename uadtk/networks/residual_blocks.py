"""Residual autoencoder of Chen & Konukoglu 2018, *Unsupervised Detection of Lesions in Brain MRI using constrained
adversarial auto-encoders*.

Known from their code: pre-activated residual blocks with LeakyReLU 0.2, 16 channels at full size, four halvings, z a
vector. Inferred: one block per halving, which doubles the channels; 3x3 convolutions; average pooling and
nearest-neighbour upsampling; linear layers to z and back. The original has batch norm. Here it is layer norm over the
whole slice, as in a variant of the comparative study (Baur et al. 2021): three players encode images as well as
reconstructions, and batch statistics would mix these.
"""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from uadtk.networks.norms import GroupNorm
from uadtk.networks.unified import glorot, require_halvings

CHANNELS = (16, 32, 64, 128, 256)
SLOPE = 0.2


class ResidualBlock(nn.Module):
    """(B, before, S, S) -> (B, after, S, S): norm, LeakyReLU and convolution, twice, plus a shortcut."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(*_activated(before, after), *_activated(after, after))
        self.shortcut = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.shortcut(x) + self.residual(x)
        return out


class ResidualAutoencoder(nn.Module):
    """``encode(x)`` -> [z] with z (B, latent), ``decode(z)`` -> (B, 1, S, S), without output activations."""

    def __init__(self, side: int, latent: int) -> None:
        super().__init__()
        require_halvings(side, len(CHANNELS) - 1)
        small = side >> len(CHANNELS) - 1
        deep = (CHANNELS[-1], small, small)
        size = CHANNELS[-1] * small**2
        down: list[nn.Module] = [nn.Conv2d(1, CHANNELS[0], 3, padding=1)]
        for before, after in itertools.pairwise(CHANNELS):
            down += [ResidualBlock(before, after), nn.AvgPool2d(2)]
        self.encoder = nn.Sequential(*down, *_ready(CHANNELS[-1]), nn.Flatten(), nn.Linear(size, latent))
        up: list[nn.Module] = [nn.Linear(latent, size), nn.Unflatten(1, deep)]
        for before, after in itertools.pairwise(CHANNELS[::-1]):
            up += [nn.Upsample(scale_factor=2), ResidualBlock(before, after)]
        self.decoder = nn.Sequential(*up, *_activated(CHANNELS[0], 1))
        self.apply(glorot)

    def encode(self, x: Tensor) -> list[Tensor]:
        return [self.encoder(x)]

    def decode(self, z: Tensor) -> Tensor:
        image: Tensor = self.decoder(z)
        return image


def _ready(channels: int) -> list[nn.Module]:
    return [GroupNorm(1, channels), nn.LeakyReLU(SLOPE)]


def _activated(before: int, after: int) -> list[nn.Module]:
    return [*_ready(before), nn.Conv2d(before, after, 3, padding=1)]
