"""Autoencoders with a latent vector z: that of the comparative study, and the larger one of Zimmerer et al.

Both have ``encode(x)`` -> one (B, latent) per head, and ``decode(z)`` -> (B, 1, S, S), without activations on z.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uadtk.core.errors import UsageError
from uadtk.networks.unified import Decoder, DenseLatent, Encoder, Transposed, glorot, narrow, require_halvings, stages

ZIMMERER_WIDTHS = (16, 64, 256, 1024)
ZIMMERER_SLOPE = 0.2


class Autoencoder(Protocol):
    """A network, or a model, with one latent."""

    def encode(self, x: Tensor) -> Sequence[Tensor]:
        """``x`` (B, 1, S, S) -> [z]."""
        ...

    def decode(self, z: Tensor) -> Tensor: ...


def rebuild(net: Autoencoder, x: Tensor, dropout: float = 0.0) -> Tensor:
    """Reconstruction of ``x`` (B, 1, S, S) with dropout of that rate on z, in training and ``eval`` mode alike."""
    (z,) = net.encode(x)
    return net.decode(F.dropout(z, dropout))


def dropout_samples(net: Autoencoder, x: Tensor, n: int, dropout: float) -> Tensor:
    """(n, B, 1, S, S): reconstructions of ``x`` with independent dropout on z."""
    (z,) = net.encode(x)
    return torch.stack([net.decode(F.dropout(z, dropout)) for _ in range(n)])


def halvings(side: int, least: int = 1) -> int:
    """Number of stages from ``side`` pixels down to 8, or to the nearest size above it.

    Raises
    ------
    UsageError
        ``side`` is too small for ``least`` stages, or does not divide evenly.
    """
    n = stages(side)
    if n < least or side % 2**n:
        raise UsageError(f"slices of {side} pixels cannot be halved to 8 x 8", fix="Take 128 or 256 pixels.")
    return n


class DenseAutoencoder(nn.Module):
    """Unified encoder, dense bottleneck and decoder; 1,625,777 parameters at 128 pixels with one head of 128.

    ``seen``: channels of the input.
    """

    def __init__(self, side: int, latent: int, heads: int = 1, seen: int = 1) -> None:
        super().__init__()
        n = halvings(side)
        self.encoder, self.decoder = Encoder(n, seen=seen), Decoder(n)
        self.latent = DenseLatent(self.encoder.channels, side >> n, latent, heads)

    def encode(self, x: Tensor) -> list[Tensor]:
        return self.latent.encode(self.encoder(x))

    def decode(self, z: Tensor, dropout: float = 0.0) -> Tensor:
        """``dropout`` is the dropout rate after the first linear layer, in training and ``eval`` mode alike."""
        thin = F.dropout(self.latent.expand(z), dropout).unflatten(1, self.latent.thin)
        image: Tensor = self.decoder(self.latent.widen(thin))
        return image


class ZimmererAutoencoder(nn.Module):
    """Four 4x4 stride-2 convolutions to 1024 channels, a linear layer to z, and the mirror image of that.

    Zimmerer et al. 2018, *Context-encoding Variational Autoencoder for Unsupervised Anomaly Detection*, as in
    the comparative study: LeakyReLU 0.2, no normalisation. 34 million parameters at 128 pixels with two heads.
    """

    def __init__(self, side: int, latent: int, heads: int = 1) -> None:
        super().__init__()
        require_halvings(side, len(ZIMMERER_WIDTHS))
        halved = side >> len(ZIMMERER_WIDTHS)
        self.deep = (ZIMMERER_WIDTHS[-1], halved, halved)
        size = ZIMMERER_WIDTHS[-1] * halved**2
        channels = (1, *ZIMMERER_WIDTHS)
        down = [nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in itertools.pairwise(channels)]
        up = [Transposed(a, b, 4, stride=2, padding=1) for a, b in itertools.pairwise(channels[::-1])]
        self.encoder = nn.Sequential(*(layer for conv in down for layer in (conv, nn.LeakyReLU(ZIMMERER_SLOPE))))
        self.heads = nn.ModuleList(nn.Linear(size, latent) for _ in range(heads))
        self.expand = nn.Linear(latent, size)
        self.decoder = nn.Sequential(*(layer for conv in up for layer in (nn.LeakyReLU(ZIMMERER_SLOPE), conv)))
        self.apply(glorot)
        for log_std in self.heads[1:]:
            narrow(log_std)  # type: ignore[arg-type]

    def encode(self, x: Tensor) -> list[Tensor]:
        flat = self.encoder(x).flatten(1)
        return [head(flat) for head in self.heads]

    def decode(self, z: Tensor, dropout: float = 0.0) -> Tensor:
        """``dropout`` is the dropout rate after the linear layer, in training and ``eval`` mode alike."""
        image: Tensor = self.decoder(F.dropout(self.expand(z), dropout).unflatten(1, self.deep))
        return image
