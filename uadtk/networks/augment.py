"""Mild augmentation of training batches that preserves healthy anatomy."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from uadtk.core.model import Batch


def augmented(batch: Batch) -> Batch:
    """Left-right flip; rotation up to 8°, shift up to 4 %, scale and aspect up to 8 %, gamma up to 15 %."""
    n = len(batch.image)

    def around(centre: float, spread: float) -> torch.Tensor:
        return centre + spread * (2 * torch.rand(n) - 1)

    angle, flip = around(0, 0.14), torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    size_x, size_y = around(1, 0.08), around(1, 0.08)
    top = torch.stack([flip * angle.cos() * size_x, -angle.sin() * size_y, around(0, 0.08)], dim=1)
    bottom = torch.stack([flip * angle.sin() * size_x, angle.cos() * size_y, around(0, 0.08)], dim=1)
    theta = torch.stack([top, bottom], dim=1).to(batch.image.device)
    grid = F.affine_grid(theta, list(batch.image.shape), align_corners=False)
    image = F.grid_sample(batch.image, grid, mode="bilinear", align_corners=False)
    masks = [batch.brain, ~batch.normal, batch.lesion, batch.known, batch.hint, batch.hinted]
    sampled = F.grid_sample(torch.cat(masks, dim=1).to(image.dtype), grid, mode="nearest", align_corners=False) > 0.5
    brain, abnormal, *labels = sampled.split(1, dim=1)
    gamma = around(1, 0.15).to(image.device)[:, None, None, None]
    return Batch(image.clamp(min=0).pow(gamma) * brain, brain, ~abnormal, *labels, pixel_mm=batch.pixel_mm)
