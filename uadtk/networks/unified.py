"""The unified encoder and decoder of the comparative study (Baur et al. 2021, Fig. 4), and its two bottlenecks.

Stride-2 5x5 convolutions from 32 up to 128 channels (in general from ``width`` to four times that), LeakyReLU 0.3,
no normalisation (the authors report all results without it), no output activation. At 128 pixels and 8x8 the encoder
has 666,752 parameters, the decoder 691,489, the dense bottleneck of 128 numbers 267,536.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uadtk.core.errors import UsageError
from uadtk.networks.norms import PixelNorm

SLOPE = 0.3
GROWTH = 4
LOG_STD = -3.0  # initial log σ of a latent


def stages(side: int, resolution: int = 8) -> int:
    """Number of halvings from ``side`` to ``resolution`` pixels."""
    return max(0, (side // resolution).bit_length() - 1)


def require_halvings(side: int, times: int) -> None:
    """Raises UsageError unless slices of ``side`` pixels can be halved ``times`` times."""
    if side % 2**times:
        raise UsageError(f"slices of {side} pixels cannot be halved {times} times", fix="Take 128 or 256 pixels.")


def widths(n: int, width: int) -> list[int]:
    """Channels after each of ``n`` encoder stages."""
    return [min(GROWTH * width, width * 2**i) for i in range(n)]


def glorot(module: nn.Module) -> None:
    """Glorot-uniform weights and zero biases, for ``Module.apply``."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def narrow(head: nn.Conv2d | nn.Linear, times: float = 1.0) -> None:
    """Start a head of log σ (``times`` log σ) at a small σ, so that draws of z carry the image from the first step.

    Untrained means differ by a few thousandths between images. At σ = 1 the decoder sees noise and settles on x̂ = 0.
    """
    nn.init.constant_(head.bias, times * LOG_STD)  # type: ignore[arg-type]


def _norm(side: int) -> list[nn.Module]:
    """Layer norm over the pixels of each channel separately, as in the study's generators."""
    return [PixelNorm(side)] if side else []


class Transposed(nn.ConvTranspose2d):
    """In training on a CPU the bias is added by itself: as part of it, a convolution's gradient takes twice as long."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if not torch.is_grad_enabled() or x.device.type != "cpu" or self.bias is None or output_size:
            return super().forward(x, output_size)
        shape: Any = self.stride, self.padding, self.output_padding, self.groups, self.dilation
        up = F.conv_transpose2d(x, self.weight, None, *shape)
        return up + self.bias.to(up.dtype)[:, None, None]


class Encoder(nn.Sequential):
    """(B, ``seen``, S, S) -> (B, C, S / 2^n, S / 2^n)."""

    def __init__(self, n: int, width: int = 32, seen: int = 1) -> None:
        channels = [seen, *widths(n, width)]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(channels):
            layers += [nn.Conv2d(before, after, 5, stride=2, padding=2), nn.LeakyReLU(SLOPE)]
        super().__init__(*layers)
        self.channels = channels[-1]
        self.apply(glorot)


class Decoder(nn.Sequential):
    """(B, C, S / 2^n, S / 2^n) -> (B, 1, S, S), with ReLU on the input and no output activation.

    With ``normed=S`` the input and each transposed convolution are followed by a layer norm.
    """

    def __init__(self, n: int, width: int = 32, normed: int = 0) -> None:
        before = widths(n, width)[-1]
        layers: list[nn.Module] = [*_norm(normed >> n), nn.ReLU()]
        for i in range(n):
            after = max(width, GROWTH * width // 2**i)
            up = Transposed(before, after, 5, stride=2, padding=2, output_padding=1)
            layers += [up, *_norm(normed >> (n - i - 1)), nn.LeakyReLU(SLOPE)]
            before = after
        super().__init__(*layers, nn.Conv2d(before, 1, 1))
        self.apply(glorot)


class DenseLatent(nn.Module):
    """1x1 convolution to C/8 channels, flatten, linear to z; and back.

    ``heads`` linear layers share the features: one for z, or two for its mean and log σ.
    """

    def __init__(self, channels: int, resolution: int, latent: int, heads: int = 1) -> None:
        super().__init__()
        thin = max(1, channels // 8)
        self.thin = (thin, resolution, resolution)
        size = thin * resolution * resolution
        self.squeeze = nn.Conv2d(channels, thin, 1)
        self.heads = nn.ModuleList(nn.Linear(size, latent) for _ in range(heads))
        self.expand = nn.Linear(latent, size)
        self.widen = nn.Conv2d(thin, channels, 1)
        self.apply(glorot)
        for log_std in self.heads[1:]:
            narrow(log_std)  # type: ignore[arg-type]

    def encode(self, features: Tensor) -> list[Tensor]:
        flat = self.squeeze(features).flatten(1)
        return [head(flat) for head in self.heads]

    def decode(self, z: Tensor) -> Tensor:
        expanded: Tensor = self.widen(self.expand(z).unflatten(1, self.thin))
        return expanded


class SpatialLatent(nn.Module):
    """z is a feature map: 1x1 convolutions to ``latent`` channels and back; ``heads`` as in ``DenseLatent``."""

    def __init__(self, channels: int, latent: int, heads: int = 1) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Conv2d(channels, latent, 1) for _ in range(heads))
        self.widen = nn.Conv2d(latent, channels, 1)
        self.apply(glorot)
        for log_std in self.heads[1:]:
            narrow(log_std)  # type: ignore[arg-type]

    def encode(self, features: Tensor) -> list[Tensor]:
        return [head(features) for head in self.heads]

    def decode(self, z: Tensor) -> Tensor:
        widened: Tensor = self.widen(z)
        return widened


def gaussian_kl(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(N(mean, std²) || N(0, 1)), summed over all axes but the batch -> (B,); in float32 for accuracy."""
    mean, log_std = mean.float(), log_std.float()
    return 0.5 * (mean.square() + (2 * log_std).exp() - 2 * log_std - 1).flatten(1).sum(1)


def sampled(mean: Tensor, log_std: Tensor) -> Tensor:
    """One draw from N(mean, std²), differentiable in both."""
    return mean + log_std.exp() * torch.randn_like(mean)
