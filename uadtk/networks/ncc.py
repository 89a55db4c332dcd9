"""Normalised cross-correlation of a volume with small templates."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FLAT = 1e-4  # sum of squares about the mean, below which a place or a template is without structure
LEAST = 1e-6  # of a correlation in a geometric mean: one template that does not fit at all leaves something


def correlation(volume: Tensor, template: Tensor) -> Tensor:
    """Pearson's correlation, in [-1, 1], of ``template`` (d, h, w; odd sizes) with its surroundings in (D, H, W).

    Outside the volume there are zeros. 0 where the surroundings or the template are flat.
    """
    centred = template - template.mean()
    norm = centred.square().sum()
    if norm <= FLAT:
        return torch.zeros_like(volume)
    x, ones = volume[None, None], torch.ones_like(template)[None, None]
    pad = tuple(size // 2 for size in template.shape)
    total, squares, product = (
        F.conv3d(values, kernel, padding=pad)[0, 0]  # type: ignore[arg-type]
        for values, kernel in ((x, ones), (x.square(), ones), (x, centred[None, None]))
    )
    spread = squares - total.square() / template.numel()
    return torch.where(spread > FLAT, product / (spread.clamp(min=FLAT) * norm).sqrt(), 0).clamp(-1, 1)


def template_match(volume: Tensor, templates: Tensor) -> Tensor:
    """Geometric mean, in [0, 1], of |correlation| of (D, H, W) with each of ``templates`` (n, d, h, w)."""
    logs = torch.zeros_like(volume)
    for template in templates:  # one by one: the maps of all together would be large
        logs += correlation(volume, template).abs().clamp(min=LEAST).log()
    return (logs / len(templates)).exp()
