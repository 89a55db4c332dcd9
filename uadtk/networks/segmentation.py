"""Losses of a network that says of every pixel how likely it is lesion."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

SMOOTH = 1.0  # pixels: a batch without lesion has a slope too


def soft_dice_loss(logits: Tensor, lesion: Tensor, counts: Tensor) -> Tensor:
    """1 - (2 Σ p g + 1) / (Σ p + Σ g + 1) over all pixels of the batch that count; 0 if none does.

    Milletari et al. 2016, without their squares. ``lesion`` and ``counts`` are bool, all of one shape. Of the whole
    batch, since of single slices those without lesion would have the last word.
    """
    p, g = logits.float().sigmoid() * counts, lesion & counts
    return 1 - (2 * (p * g).sum() + SMOOTH) / (p.sum() + g.sum() + SMOOTH)


def cross_entropy(logits: Tensor, lesion: Tensor, counts: Tensor) -> Tensor:
    """Mean over the pixels that count; 0 if none does."""
    each = F.binary_cross_entropy_with_logits(logits.float(), lesion.float(), reduction="none")
    return (each * counts).sum() / counts.sum().clamp(min=1)
