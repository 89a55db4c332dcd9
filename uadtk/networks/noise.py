"""Coarse noise inside the brain (Kascenas et al. 2022), for models that learn denoising."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def coarse_noise(brain: Tensor, std: float, cells: int = 16) -> Tensor:
    """Gaussian noise of ``cells`` x ``cells``, upsampled and rolled at random; 0 outside ``brain`` (B, 1, S, S)."""
    batch, _, side, _ = brain.shape
    coarse = torch.randn(batch, 1, cells, cells, device=brain.device) * std
    noise = F.interpolate(coarse, size=(side, side), mode="bilinear", align_corners=False)
    shifts = torch.randint(0, side, (2,)).tolist()
    return torch.roll(noise, shifts, dims=(2, 3)) * brain
