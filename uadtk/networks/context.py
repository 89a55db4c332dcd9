"""Context encoding: random squares cut out of the brain, for models that learn inpainting (Zimmerer et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor


def cut_squares(image: Tensor, brain: Tensor, most: int, edge: int) -> Tensor:
    """``image`` (B, 1, S, S) with 1 to ``most`` squares of ``edge`` pixels set to 0, drawn separately for every slice.

    Squares lie within the bounding box of the slice's ``brain`` (bool, same shape); a slice with a smaller box is left
    unchanged.
    """
    batch, _, side, _ = image.shape
    wanted = torch.randint(1, most + 1, (batch, 1)).to(image.device) > torch.arange(most, device=image.device)
    within = []
    for axis, draw in zip((3, 2), torch.rand(2, batch, most).to(image.device), strict=True):  # rows, then columns
        lowest, extent = _range(brain.any(dim=axis)[:, 0])
        start = (lowest + (draw * (extent - edge + 1)).long())[..., None]  # (B, most, 1)
        pixels = torch.arange(side, device=image.device)
        within.append((pixels >= start) & (pixels < start + edge))
        wanted = wanted & (extent >= edge)
    squares = within[0][..., :, None] & within[1][..., None, :] & wanted[..., None, None]
    return image * ~squares.any(dim=1, keepdim=True)


def _range(marked: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the first True in each row of (B, S), and the extent to the last; both (B, 1)."""
    marks = marked.int()
    first, last = marks.argmax(1), marked.shape[1] - 1 - marks.flip(1).argmax(1)
    return first[:, None], torch.where(marked.any(1), last - first + 1, 0)[:, None]
