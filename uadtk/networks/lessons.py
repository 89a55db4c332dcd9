"""What a model is taught with: a slice that looks like another scan's, with and without something abnormal in it.

The anatomy is moved, its contrast redrawn, bright things that are no lesions are added and lesions implanted, and all
of it goes through one acquisition. A segmenter learns where the lesions are, a reconstructing model to take them away
(as DISYRE v2 restores corrupted slices; here a corruption is an implant, and nothing tells the network its strength).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from uadtk.core.model import Batch
from uadtk.networks.distractors import distracted
from uadtk.networks.implants import BRIGHT, Facts, Recipe, implanted
from uadtk.networks.randomise import acquired, moved, recoloured

LEARNED = Recipe(tasks=BRIGHT)
JUDGED = Recipe(tasks={"shift": 0.5, "blend": 0.5}, empty=0.0)  # kinds never trained on, to choose weights by


@dataclass(frozen=True)
class Lesson:
    """``image`` and, without the implants, ``clean`` (B, 1, S, S), 0 outside ``brain``; bool masks of the same shape.

    ``counts``: brain that nothing abnormal is known of. ``target``: the implants. ``facts``: of each of them, as they
    were before the acquisition.
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
    """One for each slice of ``batch``; without a generator, a new one that torch's global seed decides."""
    generator = generator or torch.Generator(batch.image.device).manual_seed(int(torch.randint(2**62, ())))
    with torch.autocast(batch.image.device.type, enabled=False):
        image, (brain, abnormal) = moved(batch.image, [batch.brain, ~batch.normal], pixel_mm, generator)
        image = recoloured(image, brain, generator)
        image = distracted(image, brain, pixel_mm, generator)
        made = implanted(image, brain, ~abnormal, pixel_mm, generator, recipe, shapes)
        both, brain = acquired(torch.cat([made.image, image], dim=1), brain, pixel_mm, generator)
    seen, clean = (channel.contiguous(memory_format=torch.channels_last) for channel in both.split(1, dim=1))
    return Lesson(seen, clean, brain, brain & ~abnormal, made.target & brain, made.facts)
