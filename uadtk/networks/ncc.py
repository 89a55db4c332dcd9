"""Normalised cross-correlation of a volume with small templates."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FLAT = 1e-4  # sum of squares about the mean; below it, a neighbourhood or template counts as constant
LEAST = 1e-6  # lower clamp of a correlation, so that one template without any match does not zero the mean


def correlation(volume: Tensor, template: Tensor) -> Tensor:
    """Pearson's correlation, in [-1, 1], of ``template`` (d, h, w; odd sizes) with each neighbourhood in (D, H, W).

    The volume is padded with zeros. The result is 0 where the neighbourhood or the template is constant.
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
    for template in templates:  # one at a time, to limit memory
        logs += correlation(volume, template).abs().clamp(min=LEAST).log()
    return (logs / len(templates)).exp()
