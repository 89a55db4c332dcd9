"""Adjacent slices as further channels, for models that see a slice among those beside it (2.5-D)."""

from __future__ import annotations

import torch
from torch import Tensor


def with_neighbours(x: Tensor, n: int) -> Tensor:
    """(B, 1, S, S), consecutive slices of one scan -> (B, 1 + 2n, S, S); edge slices are repeated."""
    at = torch.arange(len(x), device=x.device)
    return torch.cat([x[(at + offset).clamp(0, len(x) - 1)] for offset in range(-n, n + 1)], dim=1)
