"""Distractors: bright structures that are not lesions and are not part of the target.

False positives on FLAIR are most frequent at periventricular caps, choroid plexus, brain rim, insula and other bright
cortex, and in pulsation ghosts across the brainstem. Each is added to some slices, based on the slice's own anatomy;
dark regions deep inside the brain stand for the ventricles.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from uadtk.networks.fields import chance, median, smooth_noise, spread, uniform

DARK = 0.5  # of the brain's median: fluid on FLAIR


def ventricles(image: Tensor, brain: Tensor, pixel_mm: float) -> Tensor:
    """Dark regions wider than a sulcus and at least about 15 mm from the rim, bool (B, 1, S, S)."""
    deep = spread(brain, round(30 / pixel_mm), shrink=4) > 0.98
    dark = (image < DARK * median(image, brain)) & brain
    return dark & deep & (spread(dark, round(8 / pixel_mm)) > 0.5)


def distracted(image: Tensor, brain: Tensor, pixel_mm: float, generator: Generator) -> Tensor:
    """``image`` (B, 1, S, S), 0 outside ``brain``, with random bright caps, plexus, rim, cortex and ghosts."""
    n, _, side, _ = image.shape
    middle = median(image, brain)
    fluid = ventricles(image, brain, pixel_mm)
    tissue = ((image / middle - 0.6) / 0.2).clamp(0, 1)
    slow = smooth_noise(n, side, 6, generator)  # where structures are bright
    patchy, elsewhere = (slow * 0.5 + 0.5).clamp(0, 1), (-slow * 0.5).clamp(0, 1)

    def strength(probability: float, highest: float) -> Tensor:
        return uniform(n, 0, highest, generator) * chance(n, probability, generator)

    caps = (spread(fluid, round(9 / pixel_mm)) * 3).clamp(max=1) * tissue * patchy
    rim = (2 - 2 * spread(brain, round(5 / pixel_mm))).clamp(0, 1) * tissue * elsewhere
    cortex = (image / middle - 1).clamp(0, 0.5) * tissue * patchy
    gain = 1 + strength(0.5, 0.35) * caps + strength(0.4, 0.5) * rim + strength(0.4, 0.6) * cortex
    plexus = fluid * (smooth_noise(n, side, round(side * pixel_mm / 7), generator) - 1.2).clamp(0, 1)
    image = image * gain + strength(0.3, 0.9) * middle * plexus  # about as bright as grey matter
    return image * (1 + strength(0.2, 0.12) * _ghosts(brain, pixel_mm, generator))


def _ghosts(brain: Tensor, pixel_mm: float, generator: Generator) -> Tensor:
    """Waves of 6 to 20 mm across a band 20 to 50 mm wide, as pulsation leaves them along the phase encoding."""
    n, _, side, _ = brain.shape
    at = (torch.arange(side, device=brain.device) - side / 2) * pixel_mm
    centre, width = uniform(n, -40, 40, generator), uniform(n, 10, 25, generator)
    wave = (2 * math.pi * at[:, None] / uniform(n, 6, 20, generator) + uniform(n, 0, 6.3, generator)).sin()
    band = (-((at - centre) / width).square() / 2).exp()
    across = wave * band
    return torch.where(chance(n, 0.5, generator) > 0, across, across.transpose(2, 3))
