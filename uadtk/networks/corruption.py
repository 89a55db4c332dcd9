"""Corruptions that a model learns to remove: coarse noise (Kascenas et al. 2022) or implanted lesions.

``uadtk train MODEL --corruption implants`` calls :func:`with_lesions` for any model that reconstructs ``Batch.target``.
A model with an option ``corruption`` of its own calls :func:`corrupt`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from torch import Tensor

from uadtk.core.model import Batch
from uadtk.networks.lessons import JUDGED, LEARNED, lesson, with_implants
from uadtk.networks.noise import coarse_noise

Corruption = Literal["noise", "implants", "both"]


def corrupt(batch: Batch, kind: Corruption, std: float, learning: bool) -> tuple[Tensor, Batch]:
    """The input, (B, 1, S, S), and the batch to reconstruct from it.

    ``noise`` of standard deviation ``std`` leaves the batch unchanged. ``implants`` also randomises the batch
    (contrast, bias field, resolution: ``uadtk.networks.randomise``); unless ``learning``, the implants are of kinds
    that are never trained on. ``both`` puts noise on slices with implants, and randomises nothing.
    """
    if kind == "noise":
        return batch.image + coarse_noise(batch.brain, std), batch
    if kind == "both":
        lesions = with_implants(batch, batch.pixel_mm, LEARNED if learning else JUDGED)
        return lesions.image + coarse_noise(batch.brain, std), batch
    made = with_lesions(batch, learning)
    return made.image, replace(made, image=made.target, clean=None)


def with_lesions(batch: Batch, learning: bool) -> Batch:
    """Randomised slices with implants in ``image`` and without in ``clean``.

    Unless ``learning``, the implants are of kinds that are never trained on, so that these select the weights.
    """
    made = lesson(batch, batch.pixel_mm, LEARNED if learning else JUDGED)
    return Batch(made.image, made.brain, made.counts | ~made.brain, clean=made.clean, pixel_mm=batch.pixel_mm)
