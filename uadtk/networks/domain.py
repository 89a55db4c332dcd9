"""Domain-adversarial training: a discriminator of scanners, and gradient reversal.

Kamnitsas et al., *Unsupervised domain adaptation in brain lesion segmentation with adversarial networks* (IPMI 2017):
a discriminator receives features of several depths and predicts their domain; the network that computes them learns the
opposite, with a weight that rises during training. The gradient reversal is that of Ganin and Lempitsky (2015). The
discriminator is inferred: their network is not a U-Net.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradient, None


def reverse(x: Tensor, strength: float) -> Tensor:
    """Identity, with the gradient multiplied by -``strength``."""
    out: Tensor = _Reverse.apply(x, strength)
    return out


class Discriminator(nn.Module):
    """Features of several resolutions -> (B,) logits, positive for the source domain.

    Each is projected by a 1x1 convolution to ``width`` channels and resized to a quarter of the largest side; three
    convolutions of their concatenation, averaged over positions, give the logit.
    """

    def __init__(self, channels: Sequence[int], width: int = 16) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Conv2d(n, width, 1) for n in channels)
        self.judge = nn.Sequential(
            nn.Conv2d(width * len(channels), 2 * width, 3, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 1),
        )

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        side = max(1, levels[-1].shape[-1] // 4)
        sized = [F.adaptive_avg_pool2d(x, side) if x.shape[-1] > side else F.interpolate(x, size=side) for x in levels]
        seen = torch.cat([conv(x) for conv, x in zip(self.project, sized, strict=True)], dim=1)
        logits: Tensor = self.judge(seen).flatten(1).mean(1)
        return logits


def domain_loss(discriminator: Discriminator, levels: Sequence[Tensor], source: Tensor, strength: float) -> Tensor:
    """Cross-entropy of predicting ``source`` (B,) bool; its gradient in ``levels`` is reversed, times ``strength``."""
    logits = discriminator([reverse(x, strength) for x in levels]).float()
    return F.binary_cross_entropy_with_logits(logits, source.to(logits.dtype))


def ramp(epoch: int, start: int, end: int) -> float:
    """0 up to epoch ``start``, 1 from ``end``, linear in between."""
    return min(1.0, max(0.0, (epoch - start) / (end - start))) if end > start else float(epoch > start)
