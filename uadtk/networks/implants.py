"""Implants: synthetic anomalies in lesion-free slices, with the mask that is the training target.

Recipes follow UNA and WMH-SynthSeg (bright lesions of random contrast), *Many Tasks Make Light Work* (Baugh et al.
2023: several kinds of anomaly, some to train on and the others to select by), DISYRE v2 (changes of an intensity band)
and Tan et al. 2021 (foreign patches by Poisson blending). Ranges are ours, chosen on scans of unseen sites.

All draws are from a ``torch.Generator`` on the batch's device: the same seed gives the same bytes, and torch's global
generator is not used. Implants are added in rounds of at most one per slice, which bounds memory to a few times the
batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType

import torch
from torch import Generator, Tensor

from uadtk.networks.distractors import ventricles
from uadtk.networks.fields import blurred, chance, log_uniform, median, smooth_noise, spread
from uadtk.networks.implant_outlines import Outline, outlines
from uadtk.networks.implant_tasks import TASKS, Tissue, change

BRIGHT: Mapping[str, float] = MappingProxyType({"add": 0.45, "replace": 0.45, "dark": 0.1})
LEAST_USABLE = 50  # pixels


@dataclass(frozen=True)
class Recipe:
    """Frequencies and ranges of implants.

    ``tasks`` are the relative frequencies of the kinds (``implant_tasks.TASKS``); ``empty`` is the share of slices
    without implants, ``large`` that of slices whose first two implants are as large as tumours. A slice gets 1 +
    Poisson implants, with a mean from ``means``, and at most ``most``. Sizes are diameters of discs of equal area;
    ``edge_mm`` is the width over which an implant fades into its surroundings. ``periventricular`` is the share centred
    near a ventricle. Changes of less than ``visible`` times the brain's median are not part of the target; the hollow
    core of a bright implant is.
    """

    tasks: Mapping[str, float] = field(default_factory=lambda: BRIGHT)
    empty: float = 0.15
    large: float = 0.4
    means: tuple[float, ...] = (0.3, 2.0, 6.0)
    most: int = 8
    small_mm: tuple[float, float] = (2.8, 18.0)
    large_mm: tuple[float, float] = (18.0, 75.0)
    edge_mm: tuple[float, float] = (0.6, 4.0)
    periventricular: float = 0.3
    visible: float = 0.08


@dataclass(frozen=True)
class Facts:
    """Properties of each visible implant, all (M,).

    ``slice`` is its row in the batch; ``task`` its index in ``TASKS``; ``size_mm`` the diameter of a disc with the area
    of its target; ``contrast`` the mean change there, relative to the brain's median; ``edge_mm`` the width of its
    edge; ``row`` and ``column`` its centre.
    """

    slice: Tensor
    task: Tensor
    size_mm: Tensor
    contrast: Tensor
    edge_mm: Tensor
    row: Tensor
    column: Tensor


@dataclass(frozen=True)
class Implanted:
    """``image`` (B, 1, S, S); ``target`` bool, of the same shape; and ``facts`` of each implant."""

    image: Tensor
    target: Tensor
    facts: Facts


def implanted(
    image: Tensor,
    brain: Tensor,
    usable: Tensor,
    pixel_mm: float,
    generator: Generator,
    recipe: Recipe | None = None,
    shapes: Tensor | None = None,
) -> Implanted:
    """Slices with implants in ``usable`` tissue, otherwise unchanged.

    ``image`` (B, 1, S, S), about [0, 1] and 0 outside ``brain``; ``usable`` bool, True where no lesion is known.
    ``shapes`` (N, h, w), soft masks in [0, 1] that each fill their frame, are the outlines of half of the implants.
    """
    recipe, n = recipe or Recipe(), len(image)
    usable = usable & brain
    near = spread(ventricles(image, brain, pixel_mm), round(16 / pixel_mm))
    tissue = _tissue(image, brain, near, pixel_mm, generator)
    centres = _centres(usable, near, generator, recipe)
    counts = _counts(n, generator, recipe) * (usable.flatten(1).sum(1) >= LEAST_USABLE)
    large = chance(n, recipe.large, generator) > 0
    result, target = image.clone(), torch.zeros_like(usable)
    facts = []
    for turn in range(recipe.most):
        rows = (counts > turn).nonzero().flatten()
        if not len(rows) and turn:
            break
        diameter = log_uniform(n, *recipe.small_mm, generator)
        if turn < 2:
            diameter = torch.where(large, log_uniform(n, *recipe.large_mm, generator), diameter)
        edge = log_uniform(n, *recipe.edge_mm, generator)
        outline = outlines(
            centres[rows, turn], diameter[rows] / pixel_mm, edge[rows] / pixel_mm, image.shape[-1], generator, shapes
        )
        task = _tasks(n, generator, recipe)[rows]
        before = result[rows]
        outline = replace(outline, alpha=outline.alpha * usable[rows])
        after, inside = change(before, outline, task, tissue.of(rows), recipe.visible, generator)
        changed = (after - before) / tissue.median[rows]
        facts.append(_facts(rows, task, inside, changed, edge[rows], outline, pixel_mm))
        result[rows], target[rows] = after, target[rows] | inside
    return Implanted(result, target, _joined(facts))


def _tissue(image: Tensor, brain: Tensor, near: Tensor, pixel_mm: float, generator: Generator) -> Tissue:
    n, _, side, _ = image.shape
    grain = torch.randn(image.shape, generator=generator, device=image.device)
    grain = blurred(grain, log_uniform(n, 0.8, 6, generator) / pixel_mm)
    grain = grain / grain.flatten(1).std(1)[:, None, None, None].clamp(min=1e-6)
    foreign = image.roll(1, 0).flip(3)
    return Tissue(foreign, median(image, brain), grain, smooth_noise(n, side, 8, generator), near)


def _centres(usable: Tensor, near: Tensor, generator: Generator, recipe: Recipe) -> Tensor:
    """Row and column of every implant, int64 (B, most, 2), uniform over usable tissue or near the ventricles."""
    anywhere = usable.flatten(1) + 1e-9
    near = near.flatten(1) * usable.flatten(1) + 1e-9 * anywhere
    place, beside = (torch.multinomial(w, recipe.most, True, generator=generator) for w in (anywhere, near))
    chosen = torch.rand(place.shape, generator=generator, device=near.device) < recipe.periventricular
    at = torch.where(chosen, beside, place)
    side = usable.shape[-1]
    return torch.stack([at // side, at % side], dim=-1)


def _counts(n: int, generator: Generator, recipe: Recipe) -> Tensor:
    means = torch.tensor(recipe.means, device=generator.device)
    which = torch.randint(len(means), (n,), generator=generator, device=generator.device)
    filled = 1 - chance(n, recipe.empty, generator).flatten()
    return (1 + torch.poisson(means[which], generator=generator)) * filled


def _tasks(n: int, generator: Generator, recipe: Recipe) -> Tensor:
    """(n,), indices into ``TASKS``."""
    weights = torch.tensor([recipe.tasks.get(name, 0.0) for name in TASKS], device=generator.device)
    return torch.multinomial(weights, n, True, generator=generator)


def _facts(
    rows: Tensor, task: Tensor, inside: Tensor, changed: Tensor, edge_mm: Tensor, outline: Outline, pixel_mm: float
) -> Facts:
    area = inside.flatten(1).sum(1)
    contrast = (changed * inside).flatten(1).sum(1) / area.clamp(min=1)
    size_mm = 2 * pixel_mm * (area / torch.pi).sqrt()
    row, column = outline.centre.unbind(1)
    every = (rows, task, size_mm, contrast, edge_mm.flatten(), row, column)
    return Facts(*(values[area > 0] for values in every))


def _joined(facts: list[Facts]) -> Facts:
    return Facts(*(torch.cat([getattr(part, one.name) for part in facts]) for one in fields(Facts)))
