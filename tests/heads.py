"""Small heads to be scanned twice: a brain with folds of its own, bright lesions, and a place in the scanner."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from tests.scans import SMALL_AFFINE, ball

SHAPE = (44, 52, 24)
Sphere = tuple[tuple[float, float, float], float]  # centre as share of the shape, radius as share of half of it
FIRST: Sphere = ((0.2, 0.1, 0.05), 0.13)
SECOND: Sphere = ((-0.2, -0.1, 0.05), 0.13)
WIDER: Sphere = ((0.2, 0.1, 0.05), 0.18)


def head(person: int, scan: int, *lesions: Sphere, shift_mm: tuple[float, float, float] = (0, 0, 0)) -> nib.Nifti1Image:
    """``person`` gives the folds, ``scan`` the noise."""
    folds = ndimage.gaussian_filter(np.random.default_rng(person).standard_normal(SHAPE), (1.2, 1.2, 0.8))
    brain = ball(SHAPE, 0.85)
    image = np.where(ball(SHAPE, 0.5), 700.0, 500.0) * (1 + 0.15 * folds / folds.std())
    image = np.where(ball(SHAPE, 0.18), 150.0, image)
    for centre, radius in lesions:
        image = np.where(ball(SHAPE, radius, centre) & brain, 1500.0, image)
    image += 10 * np.random.default_rng(1000 + scan).standard_normal(SHAPE)
    affine = SMALL_AFFINE.copy()
    affine[:3, 3] += shift_mm
    return nib.Nifti1Image(np.where(brain, image, 0).astype(np.float32), affine)


def save(image: nib.Nifti1Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path
