"""Lessons: randomised training slices with and without implanted lesions.

Anatomy and contrast are randomised, bright structures that are not lesions are added, lesions are implanted, and both
versions, with and without implants, go through the same simulated acquisition. A segmenter learns where the implants
are, a reconstructing model to remove them (as DISYRE v2 restores corrupted slices, but the network does not get the
strength of the corruption).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from uadtk.core.model import Batch
from uadtk.networks.distractors import distracted
from uadtk.networks.implants import BRIGHT, Facts, Implanted, Recipe, implanted
from uadtk.networks.randomise import acquired, moved, recoloured

LEARNED = Recipe(tasks=BRIGHT)
JUDGED = Recipe(tasks={"shift": 0.5, "blend": 0.5}, empty=0.0)  # kinds never trained on, to select weights


@dataclass(frozen=True)
class Lesson:
    """``image`` with and ``clean`` without implants, (B, 1, S, S), 0 outside ``brain``; bool masks of the same shape.

    ``counts``: brain without known lesions. ``target``: the implants. ``facts``: properties of each implant before the
    acquisition.
    """

    image: Tensor
    clean: Tensor
    brain: Tensor
    counts: Tensor
    target: Tensor
    facts: Facts


@torch.no_grad()
def lesson(
    batch: Batch, pixel_mm: float, recipe: Recipe, shapes: Tensor | None = None, generator: Generator | None = None
) -> Lesson:
    """A lesson for each slice of ``batch``; without a generator, draws depend on torch's global seed.

    Computed in float32, also under autocast.
    """
    generator = generator or _drawn_generator(batch)
    with torch.autocast(batch.image.device.type, enabled=False):
        image, (brain, abnormal) = moved(batch.image, [batch.brain, ~batch.normal], pixel_mm, generator)
        image = recoloured(image, brain, generator)
        image = distracted(image, brain, pixel_mm, generator)
        made = implanted(image, brain, ~abnormal, pixel_mm, generator, recipe, shapes)
        both, brain = acquired(torch.cat([made.image, image], dim=1), brain, pixel_mm, generator)
    seen, clean = (channel.contiguous(memory_format=torch.channels_last) for channel in both.split(1, dim=1))
    return Lesson(seen, clean, brain, brain & ~abnormal, made.target & brain, made.facts)


@torch.no_grad()
def with_implants(batch: Batch, pixel_mm: float, recipe: Recipe) -> Implanted:
    """Implants in the slices of ``batch`` as they are, without randomisation; draws depend on torch's global seed."""
    with torch.autocast(batch.image.device.type, enabled=False):
        return implanted(batch.image, batch.brain, batch.normal, pixel_mm, _drawn_generator(batch), recipe)


def _drawn_generator(batch: Batch) -> Generator:
    return torch.Generator(batch.image.device).manual_seed(int(torch.randint(2**62, ())))
