"""Reconstruction errors: one number per slice, summed over pixels.

Summed, because the study's weight 1 of the KL divergence refers to a sum; relative to a mean it would be 16,384 times
too large.
"""

from __future__ import annotations

from torch import Tensor


def l1(x: Tensor, rebuilt: Tensor, normal: Tensor | None = None) -> Tensor:
    """Σ|x − x̂| (B,) over all pixels of (B, 1, S, S), or over the ``normal`` ones (bool, same shape)."""
    return _summed((x - rebuilt).abs(), normal)


def l2(x: Tensor, rebuilt: Tensor, normal: Tensor | None = None) -> Tensor:
    """Σ(x − x̂)² (B,), like :func:`l1`."""
    return _summed((x - rebuilt).square(), normal)


def _summed(error: Tensor, normal: Tensor | None) -> Tensor:
    return (error if normal is None else error * normal).flatten(1).sum(1)
