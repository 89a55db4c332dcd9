"""Kinds of implants: how the tissue inside an outline is changed.

``add``      brightened by an amount          ``shift``   brightened within an intensity band
``replace``  mostly replaced by bright values  ``blend``   a patch of another slice, blended without seams
``dark``     mostly replaced by dark values    ``deform``  tissue contracted or expanded

Amounts are relative to the brain's median, so that contrast means the same on every slice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from uadtk.networks.fields import chance, log_uniform, uniform
from uadtk.networks.implant_outlines import Outline

TASKS = ("add", "replace", "dark", "shift", "blend", "deform")
ADDED = (0.13, 1.1)  # range of the amount of ``add``
REPLACED = (1.12, 2.3)  # range of the brightness of ``replace``, relative to the local mean or the median
CLOSENESS = 0.5  # of a blended patch to the original intensities; 0 keeps gradients only


@dataclass(frozen=True)
class Tissue:
    """Per slice, all (n, 1, S, S) but ``median`` (n, 1, 1, 1).

    ``foreign``: another slice of the batch, mirrored; ``median`` of the brain; ``grain`` and ``slow``: fine and coarse
    noise, about N(0, 1); ``near``: in [0, 1], highest at the ventricles.
    """

    foreign: Tensor
    median: Tensor
    grain: Tensor
    slow: Tensor
    near: Tensor

    def of(self, rows: Tensor) -> Tissue:
        return Tissue(*(getattr(self, one.name)[rows] for one in fields(self)))


def change(
    image: Tensor, outline: Outline, task: Tensor, tissue: Tissue, visible: float, generator: Generator
) -> tuple[Tensor, Tensor]:
    """``image`` (n, 1, S, S) after each slice's ``task`` (n,), and the visible part of the change, bool.

    Visible are changes of at least ``visible`` times the median, and the core that they enclose.
    """
    outline = _beside_ventricles(outline, tissue, generator)
    whole = _intensity(image, outline, task, tissue, generator)
    to = _hollowed(whole, outline, task, tissue, generator)
    stretch = uniform(len(image), 0.25, 0.7, generator) * (2 * chance(len(image), 0.5, generator) - 1)
    for name, made in (("blend", _blended), ("deform", _deformed)):
        rows = (task == TASKS.index(name)).nonzero().flatten()
        if len(rows):
            part = Outline(*(getattr(outline, one.name)[rows] for one in fields(outline)))
            whole[rows] = to[rows] = made(image[rows], part, tissue.of(rows), stretch[rows])
    size = F.avg_pool2d(outline.alpha * (whole - image).abs(), 3, stride=1, padding=1)
    after = image + outline.alpha * (to.clamp(min=0) - image)
    return after, (outline.alpha > 0.5) & (size > visible * tissue.median)


def _beside_ventricles(outline: Outline, tissue: Tissue, generator: Generator) -> Outline:
    """Half of the outlines near a ventricle keep to a band along it, 4 to 12 mm wide, as confluent lesions do."""
    n = len(outline.alpha)
    threshold = uniform(n, 0.08, 0.3, generator)
    at = outline.centre[:, 0] * outline.alpha.shape[-1] + outline.centre[:, 1]
    there = tissue.near.flatten(1).gather(1, at[:, None])[..., None, None] > threshold
    keeps = chance(n, 0.5, generator) * there
    band = ((tissue.near - threshold) * 12 + 0.5).clamp(0, 1)
    return replace(outline, alpha=outline.alpha * (1 - keeps * (1 - band)))


def _intensity(image: Tensor, outline: Outline, task: Tensor, tissue: Tissue, generator: Generator) -> Tensor:
    """keep x tissue + level x texture, with keep and level set by the task."""
    n, alpha, median = len(image), outline.alpha, tissue.median
    local = (image * alpha).sum(dim=(2, 3), keepdim=True) / alpha.sum(dim=(2, 3), keepdim=True).clamp(min=1e-3)
    added = log_uniform(n, *ADDED, generator) * median
    replaced = log_uniform(n, *REPLACED, generator) * torch.maximum(median, local)
    most, some = uniform(n, 0, 0.5, generator), uniform(n, 0.1, 0.7, generator)
    darkness = uniform(n, 0, 0.2, generator) * median
    replaces, darkens, shifts = (_is(task, name) for name in ("replace", "dark", "shift"))
    keep = torch.where(replaces, most, torch.where(darkens, some, 1.0))
    level = torch.where(replaces, replaced, torch.where(darkens, darkness, added))
    level = level * (1 + uniform(n, 0, 0.12, generator) * tissue.grain)
    if shifts.any():
        centre, width = local + uniform(n, -0.2, 0.2, generator) * median, uniform(n, 0.1, 0.4, generator) * median
        level = level * torch.where(shifts, (-((image - centre) / width).square()).exp(), 1.0)
    fades = chance(n, 0.4, generator) * uniform(n, 0.2, 0.9, generator)
    level = level * (1 - fades * (0.5 + 0.5 * tissue.slow).clamp(0, 1))
    spared = chance(n, 0.6, generator) * (1 - ((image / median - 0.4) / 0.25).clamp(0, 1))  # fluid stays fluid
    sign = 1 - 2 * darkens.float()
    difference = sign * (sign * (keep * image + level - image)).clamp(min=0)  # bright implants never darken
    return image + difference * (1 - spared)


def _hollowed(to: Tensor, outline: Outline, task: Tensor, tissue: Tissue, generator: Generator) -> Tensor:
    """A quarter of the large bright implants get a core between fluid and tissue in brightness."""
    n = len(to)
    hollow = chance(n, 0.25, generator) * (outline.radius > 5) * ~_is(task, "dark")
    core = ((outline.depth - uniform(n, 0.3, 0.6, generator)) * 4).clamp(0, 1) * hollow * uniform(n, 0.5, 1, generator)
    return to + core * (uniform(n, 0.3, 1.2, generator) * tissue.median - to)


def _is(task: Tensor, name: str) -> Tensor:
    return (task == TASKS.index(name))[:, None, None, None]


def _blended(image: Tensor, outline: Outline, tissue: Tissue, stretch: Tensor) -> Tensor:
    """Inside the outline the stronger gradient of slice and foreign slice, outside the slice's (Perez et al. 2003).

    Solved in closed form on the whole slice, as a screened Poisson equation (Bhat et al. 2008): intensities more than
    about two radii away are preserved.
    """
    own, other = _gradients(image), _gradients(tissue.foreign)
    stronger = sum(g.square() for g in other) > sum(g.square() for g in own)
    mixed = [a + outline.alpha * (b - a) * stronger for a, b in zip(own, other, strict=True)]
    divergence = sum(g - g.roll(1, dim) for g, dim in zip(mixed, (2, 3), strict=True))
    side = image.shape[-1]
    waves = [torch.fft.fftfreq(side, device=image.device)[:, None], torch.fft.rfftfreq(side, device=image.device)]
    laplacian = sum(2 - 2 * (2 * math.pi * wave).cos() for wave in waves)
    screen = (CLOSENESS / outline.radius).square()
    spectrum = (screen * torch.fft.rfft2(image) - torch.fft.rfft2(divergence)) / (screen + laplacian)
    return torch.fft.irfft2(spectrum, s=image.shape[-2:])


def _gradients(image: Tensor) -> list[Tensor]:
    """Differences to the next pixel down and across; borders wrap around, where slices are 0."""
    return [image.roll(-1, dim) - image for dim in (2, 3)]


def _deformed(image: Tensor, outline: Outline, tissue: Tissue, stretch: Tensor) -> Tensor:
    """Pixels move towards or away from the centre, by up to 0.7 of their distance from it."""
    side = image.shape[-1]
    at = torch.arange(side, device=image.device, dtype=torch.float32)
    row, column = (part[:, None, None, None] for part in outline.centre.unbind(1))
    factor = stretch * outline.alpha
    x, y = at + factor * (at - column), at[:, None] + factor * (at[:, None] - row)
    grid = torch.cat([x, y], dim=1).permute(0, 2, 3, 1) * (2 / side) + (1 / side - 1)
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
