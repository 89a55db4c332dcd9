"""Laplacian pyramid (Burt & Adelson 1983): band-pass images and a low-pass residual that sum to the image."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Pyramid(nn.Module):
    """Gaussian blur of ``sigma`` pixels (5x5) and 2x2 averaging downwards, bilinear interpolation upwards."""

    kernel: Tensor

    def __init__(self, levels: int, sigma: float = 1.0) -> None:
        super().__init__()
        self.levels = levels
        line = torch.exp(-0.5 * (torch.arange(-2.0, 3.0) / sigma).square())
        line = line / line.sum()
        self.register_buffer("kernel", (line[:, None] * line[None, :])[None, None], persistent=False)

    def down(self, image: Tensor) -> Tensor:
        """(B, 1, S, S) -> (B, 1, S/2, S/2): blurred, then averaged over 2x2 pixels."""
        return F.avg_pool2d(F.conv2d(F.pad(image, (2, 2, 2, 2), mode="reflect"), self.kernel), 2)

    def up(self, image: Tensor) -> Tensor:
        return F.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False)

    def scales(self, image: Tensor) -> list[Tensor]:
        """I_0 (the image), I_1, ..., I_levels."""
        images = [image]
        for _ in range(self.levels):
            images.append(self.down(images[-1]))
        return images

    def bands(self, scales: list[Tensor]) -> list[Tensor]:
        """H_k = I_k - up(I_{k+1}), fine to coarse."""
        return [fine - self.up(coarse) for fine, coarse in itertools.pairwise(scales)]

    def rebuild(self, bands: list[Tensor], lowpass: Tensor) -> list[Tensor]:
        """Î_0, ..., Î_{levels-1}, Î_levels = lowpass, from bands fine to coarse."""
        images = [lowpass]
        for band in reversed(bands):
            images.append(band + self.up(images[-1]))
        return images[::-1]
