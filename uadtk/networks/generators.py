"""Networks of the models with a GAN: encoder, generator and critic, in two sizes.

``Unified...`` are the two halves of the comparative study's dense autoencoder (Baur et al. 2021), the generator with
layer norms unless ``normed=False``; ``Spatial...`` are those of its spatial autoencoder, without norms. ``ImageCritic``
is the matching critic.

``Residual...`` are f-AnoGAN's (Schlegl et al. 2019), after Gulrajani et al. 2017: blocks of 3x3 convolutions between
64 channels at full size and 512 at 4x4. The originals are for 64 pixels; larger slices get more blocks of 512 channels
(inferred). The originals have layer norm in the critic only and batch norm elsewhere. Here all have layer norm over the
whole slice: a generator that is frozen while an encoder is trained must not update running statistics.
"""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from uadtk.core.errors import UsageError
from uadtk.networks.dense import halvings
from uadtk.networks.norms import GroupNorm
from uadtk.networks.unified import Decoder, Encoder, glorot, stages, widths

WIDTH, GROWTH, SMALLEST = 64, 8, 4


class UnifiedEncoder(nn.Sequential):
    """(B, 1, S, S) -> (B, outputs), without norms."""

    def __init__(self, side: int, outputs: int) -> None:
        n = halvings(side)
        features = Encoder(n)
        thin, resolution = features.channels // 8, side >> n
        squeeze = nn.Conv2d(features.channels, thin, 1)
        super().__init__(features, squeeze, nn.Flatten(), nn.Linear(thin * resolution**2, outputs))
        self.apply(glorot)


class UnifiedGenerator(nn.Sequential):
    """z (B, latent) -> (B, 1, S, S), without activation on input or output."""

    def __init__(self, side: int, latent: int, normed: bool = True) -> None:
        n = halvings(side)
        channels, resolution = widths(n, 32)[-1], side >> n
        thin = (channels // 8, resolution, resolution)
        expand, widen = nn.Linear(latent, thin[0] * resolution**2), nn.Conv2d(thin[0], channels, 1)
        super().__init__(expand, nn.Unflatten(1, thin), widen, Decoder(n, normed=side * normed))
        self.apply(glorot)


class SpatialEncoder(nn.Sequential):
    """(B, 1, S, S) -> (B, outputs, 8, 8), without norms."""

    def __init__(self, side: int, outputs: int) -> None:
        features = Encoder(halvings(side))
        super().__init__(features, nn.Conv2d(features.channels, outputs, 1))
        self.apply(glorot)


class SpatialGenerator(nn.Sequential):
    """z (B, latent, 8, 8) -> (B, 1, S, S), without activation on input or output."""

    def __init__(self, side: int, latent: int) -> None:
        n = halvings(side)
        super().__init__(nn.Conv2d(latent, widths(n, 32)[-1], 1), Decoder(n))
        self.apply(glorot)


class ResidualEncoder(nn.Sequential):
    """(B, 1, S, S) -> (B, outputs): the critic's features and a linear layer."""

    def __init__(self, side: int, outputs: int) -> None:
        features = _features(side)
        super().__init__(features, nn.Flatten(), nn.Linear(_size(side), outputs))
        self.apply(glorot)


class ResidualGenerator(nn.Sequential):
    """z (B, latent) -> (B, 1, S, S), without activation on input or output."""

    def __init__(self, side: int, latent: int) -> None:
        channels = _channels(side)[::-1]
        small = side >> len(channels) - 1
        blocks: list[nn.Module] = []
        for before, after in itertools.pairwise(channels):
            blocks += [nn.Upsample(scale_factor=2), _Block(before, after, after)]
        start = [nn.Linear(latent, _size(side)), nn.Unflatten(1, (channels[0], small, small))]
        super().__init__(*start, *blocks, *_activated(channels[-1], 1))
        self.apply(glorot)


class ResidualCritic(nn.Module):
    """(B, 1, S, S) -> (B,)."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.features = _features(side)
        self.judge = nn.Sequential(nn.Flatten(), nn.Linear(_size(side), 1), nn.Flatten(0))
        self.apply(glorot)

    def forward(self, x: Tensor) -> Tensor:
        value: Tensor = self.judge(self.features(x))
        return value


class _Block(nn.Module):
    """Norm, ReLU and convolution, twice, plus a 1x1 convolution as shortcut."""

    def __init__(self, before: int, between: int, after: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(*_activated(before, between), *_activated(between, after))
        self.shortcut = nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.shortcut(x) + self.residual(x)
        return out


def _activated(before: int, after: int) -> list[nn.Module]:
    return [GroupNorm(1, before), nn.ReLU(), nn.Conv2d(before, after, 3, padding=1)]


def _features(side: int) -> nn.Sequential:
    """(B, 1, S, S) -> (B, 512, 4, 4) for 64 pixels and more."""
    channels = _channels(side)
    blocks: list[nn.Module] = [nn.Conv2d(1, channels[0], 3, padding=1)]
    for before, after in itertools.pairwise(channels):
        blocks += [_Block(before, before, after), nn.AvgPool2d(2)]
    return nn.Sequential(*blocks)


def _channels(side: int) -> list[int]:
    """Channels at full size and after each halving down to 4 pixels, or to the nearest size above it."""
    n = stages(side, SMALLEST)
    if not n or side % 2**n:
        raise UsageError(f"slices of {side} pixels cannot be halved to 4 x 4", fix="Take 128 or 256 pixels.")
    return [min(GROWTH, 2**i) * WIDTH for i in range(n + 1)]


def _size(side: int) -> int:
    """Size of the flattened features of a slice."""
    channels = _channels(side)
    return channels[-1] * (side >> len(channels) - 1) ** 2
