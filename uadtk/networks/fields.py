"""Random numbers, random fields and statistics, one per slice of a batch.

All draws are from the given ``torch.Generator``, on the device of the batch; torch's global generator is not used.
Values per slice have shape (n, 1, 1, 1), which broadcasts with a batch (n, 1, S, S).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

STATISTICS_SIDE = 32  # percentiles are taken on a grid of this many pixels per side: a full sort is slow
LOWEST_MEDIAN = 0.1  # slices at the ends of a scan can be mostly black, with a median of 0


def uniform(n: int, low: float, high: float, generator: Generator) -> Tensor:
    """(n, 1, 1, 1), uniform in [low, high)."""
    return low + (high - low) * torch.rand(n, 1, 1, 1, generator=generator, device=generator.device)


def log_uniform(n: int, low: float, high: float, generator: Generator) -> Tensor:
    """(n, 1, 1, 1), log-uniform in [low, high)."""
    return uniform(n, math.log(low), math.log(high), generator).exp()


def chance(n: int, probability: float, generator: Generator) -> Tensor:
    """(n, 1, 1, 1) of 0 and 1, float32: a factor that switches an effect on in some slices."""
    return (uniform(n, 0, 1, generator) < probability).float()


def smooth_noise(n: int, side: int, cells: int, generator: Generator) -> Tensor:
    """(n, 1, side, side), every pixel standard normal; it changes over about ``side / cells`` pixels.

    White noise on a coarse lattice, smoothed by a separable Gaussian of 0.7 cells with weights of unit norm.
    """
    coarse = torch.randn(n, 1, cells + 3, cells + 3, generator=generator, device=generator.device)
    lattice = torch.arange(cells + 3, device=generator.device)
    pixels = (torch.arange(side, device=generator.device) + 0.5) * (cells / side) + 1
    weights = (-((pixels[:, None] - lattice) / 0.7).square() / 2).exp()
    weights = weights / weights.square().sum(1, keepdim=True).sqrt()
    return weights @ coarse @ weights.T


def blurred(x: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur, ``sigma`` (n, 1, 1, 1) in pixels; borders wrap around."""
    return filtered(x, gaussian(x.shape[-1], sigma, sigma))


def filtered(x: Tensor, transfer: Tensor) -> Tensor:
    """(n, 1, S, S), each slice through its own real transfer function (n, 1, S, S // 2 + 1)."""
    return torch.fft.irfft2(torch.fft.rfft2(x) * transfer, s=x.shape[-2:])


def gaussian(side: int, sigma_y: Tensor, sigma_x: Tensor) -> Tensor:
    """Transfer function of a Gaussian blur; sigmas (n, 1, 1, 1) in pixels -> (n, 1, side, side // 2 + 1)."""
    y = torch.fft.fftfreq(side, device=sigma_y.device)[:, None]
    x = torch.fft.rfftfreq(side, device=sigma_x.device)
    return _bell(sigma_y, y) * _bell(sigma_x, x)


def _bell(sigma: Tensor, frequency: Tensor) -> Tensor:
    return (-2 * (math.pi * sigma * frequency).square()).exp()


def spread(mask: Tensor, width: int, shrink: int = 2) -> Tensor:
    """Share of ``mask`` (n, 1, S, S) in a window about ``width`` pixels wide around each pixel, smooth, in [0, 1]."""
    small = F.avg_pool2d(mask.float(), shrink)
    window = max(1, round(width / shrink / 2)) | 1
    for _ in range(2):  # two box filters make a tent, nearly isotropic
        small = F.avg_pool2d(small, window, stride=1, padding=window // 2, count_include_pad=False)
    return F.interpolate(small, size=mask.shape[-2:], mode="bilinear", align_corners=False)


def percentile(x: Tensor, mask: Tensor, q: float) -> Tensor:
    """(n, 1, 1, 1): the ``q``-th percentile of each slice inside its mask, from a grid of pixels; 1 if it is empty."""
    step = max(1, x.shape[-1] // STATISTICS_SIDE)
    inside = mask[..., ::step, ::step].flatten(1)
    values = x[..., ::step, ::step].flatten(1).masked_fill(~inside, math.inf).sort(1).values
    count = inside.sum(1, keepdim=True)
    found = values.gather(1, ((count - 1).clamp(min=0) * (q / 100)).round().long())
    return found.masked_fill(count == 0, 1.0)[..., None, None]


def median(x: Tensor, mask: Tensor) -> Tensor:
    """(n, 1, 1, 1): the median inside the mask, at least ``LOWEST_MEDIAN``; for images of about [0, 1]."""
    return percentile(x, mask, 50).clamp(min=LOWEST_MEDIAN)
