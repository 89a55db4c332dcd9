"""Overlap of a mask with the ground truth, per voxel and per lesion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uadtk.kernels import label_components


def dice(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """2 |mask & truth| / (|mask| + |truth|), in [0, 1]; 1 if both are empty."""
    total = int(np.count_nonzero(mask)) + int(np.count_nonzero(truth))
    return 2 * int(np.count_nonzero(mask & truth)) / total if total else 1.0


@dataclass(frozen=True)
class LesionCount:
    """26-connected components. ``found``: lesions the mask overlaps; ``false``: components that overlap no lesion."""

    lesions: int
    found: int
    false: int


def count_lesions(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> LesionCount:
    true_labels, lesions = label_components(truth, connectivity=26)
    mask_labels, components = label_components(mask, connectivity=26)
    both = mask & truth
    found = np.unique(true_labels[both]).size
    return LesionCount(lesions, found, components - np.unique(mask_labels[both]).size)
