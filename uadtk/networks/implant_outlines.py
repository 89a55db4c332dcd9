"""Outlines of implants: ellipses with irregular, soft edges, or shapes from a library."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from uadtk.networks.fields import chance, uniform

REACH = 3.0  # radii on either side of the centre over which noise is drawn
TILE = 32  # pixels of that noise along a side
WIDEST_EDGE = 1.6  # radii; a lesion smaller than its edge becomes a dim spot


@dataclass(frozen=True)
class Outline:
    """``alpha`` (n, 1, S, S), 1 inside and 0 outside; ``depth``, 1 at the centre, 0 at the edge, negative outside.

    ``centre`` int64 (n, 2), row and column; ``radius`` (n, 1, 1, 1) in pixels.
    """

    alpha: Tensor
    depth: Tensor
    centre: Tensor
    radius: Tensor


def outlines(
    centre: Tensor, diameter: Tensor, edge: Tensor, side: int, generator: Generator, shapes: Tensor | None = None
) -> Outline:
    """One outline on each slice of ``side`` pixels.

    ``diameter`` and ``edge`` (n, 1, 1, 1) in pixels; ``shapes`` (N, h, w) lend half of the outlines theirs.
    """
    n, radius = len(centre), (diameter / 2).clamp(min=0.6)
    at = torch.arange(side, device=centre.device, dtype=torch.float32)
    y = (at[:, None] - centre[:, :1, None, None]) / radius
    x = (at - centre[:, 1:, None, None]) / radius
    angle, slim = uniform(n, 0, 2 * math.pi, generator), uniform(n, 0.5, 1, generator).sqrt()
    along, across = angle.cos() * y + angle.sin() * x, angle.cos() * x - angle.sin() * y
    distance = torch.hypot(along * slim, across / slim)
    noise = _sampled(_tiles(n, generator), along, across, torch.full_like(radius, REACH))
    depth = 1 - distance - uniform(n, 0, 0.5, generator) * noise
    if shapes is not None:
        borrowed = chance(n, 0.5, generator) > 0
        depth = torch.where(borrowed, _from_library(shapes, along, across, generator), depth)
    width = (edge / radius).clamp(max=WIDEST_EDGE)
    return Outline((depth / width + 0.5).clamp(0, 1), depth, centre, radius)


def _tiles(n: int, generator: Generator) -> Tensor:
    """Smooth noise, (n, 1, TILE, TILE), features of a quarter to three quarters of a radius, standard deviation 1."""
    coarse = [torch.randn(n, 1, cells, cells, generator=generator, device=generator.device) for cells in (6, 14)]
    rough, fine = (F.interpolate(t, size=(TILE, TILE), mode="bicubic", align_corners=False) for t in coarse)
    share = uniform(n, 0, 1, generator)
    noise = (1 - share) * rough + share * fine
    return noise / noise.square().mean(dim=(2, 3), keepdim=True).sqrt().clamp(min=1e-6)


def _from_library(shapes: Tensor, along: Tensor, across: Tensor, generator: Generator) -> Tensor:
    """Depth of shapes drawn at random, each as large as a disc of radius 1."""
    n = len(along)
    which = torch.randint(len(shapes), (n,), generator=generator, device=generator.device)
    picked = shapes[which, None].to(along.dtype)
    filled = picked.flatten(1).mean(1)[:, None, None, None].clamp(min=0.02)
    frame = (math.pi / 4 / filled).sqrt()  # half the frame's side in radii
    beyond = (torch.maximum(along.abs(), across.abs()) - frame).clamp(min=0)
    return 2 * _sampled(picked, along, across, frame) - 1 - 2 * beyond


def _sampled(tiles: Tensor, along: Tensor, across: Tensor, frame: Tensor) -> Tensor:
    """Tiles that reach ``frame`` radii from the centre, at these places; 0 beyond."""
    grid = torch.cat([across / frame, along / frame], dim=1).permute(0, 2, 3, 1)
    return F.grid_sample(tiles, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
