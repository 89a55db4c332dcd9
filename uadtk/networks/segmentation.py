"""Segmentation losses for logits of lesion per pixel."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

SMOOTH = 1.0  # pixels: gives a gradient for batches without lesion


def soft_dice_loss(logits: Tensor, lesion: Tensor, counts: Tensor) -> Tensor:
    """1 - (2 Σ p g + 1) / (Σ p + Σ g + 1) over all pixels of the batch where ``counts``; 0 if there are none.

    Milletari et al. 2016, without their squares. ``lesion`` and ``counts`` are bool, all of one shape. It is computed
    over the whole batch, since a mean over slices would be dominated by those without lesion.
    """
    p, g = logits.float().sigmoid() * counts, lesion & counts
    return 1 - (2 * (p * g).sum() + SMOOTH) / (p.sum() + g.sum() + SMOOTH)


def cross_entropy(logits: Tensor, lesion: Tensor, counts: Tensor) -> Tensor:
    """Mean over the pixels where ``counts``; 0 if there are none."""
    each = F.binary_cross_entropy_with_logits(logits.float(), lesion.float(), reduction="none")
    return (each * counts).sum() / counts.sum().clamp(min=1)
