"""Lesion-wise detection: detected lesions and true-positive components of a mask, by size.

Lesions and components are 26-connected. A lesion is found if the mask contains at least one of its voxels; a component
is true if it contains at least one voxel of the truth. Each is assigned to the size class of its own volume. Counts add
over scans.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from uadtk.kernels import label_components

SIZES = ("< 0.1 ml", "0.1-1 ml", "1-10 ml", ">= 10 ml")
EDGES_ML = (0.1, 1.0, 10.0)


def tally_lesions(mask: NDArray[np.bool_], truth: NDArray[np.bool_], voxel_ml: float) -> NDArray[np.int64]:
    """Lesions, found lesions, components and true components (rows), per size class (columns); int64 (4, 4).

    Parameters
    ----------
    mask, truth : bool arrays (x, y, z) of one shape
    voxel_ml : float
        Volume of a voxel in millilitres.
    """
    return np.concatenate([_touched(truth, mask, voxel_ml), _touched(mask, truth, voxel_ml)])


def recall(tally: NDArray[np.generic]) -> float:
    """Found lesions / lesions, in [0, 1]; NaN without lesions. ``tally`` (4, any): the size classes to include."""
    lesions, found, _, _ = tally.sum(axis=1).tolist()
    return found / lesions if lesions else math.nan


def precision(tally: NDArray[np.generic]) -> float:
    """True components / components, in [0, 1]; NaN without components."""
    _, _, components, true = tally.sum(axis=1).tolist()
    return true / components if components else math.nan


def f1(tally: NDArray[np.generic]) -> float:
    """Harmonic mean of recall and precision, in [0, 1]; 0 if only one of them exists, NaN if neither does."""
    both = np.array([recall(tally), precision(tally)])
    if np.isnan(both).all():
        return math.nan
    found, true = np.nan_to_num(both).tolist()
    return 2 * found * true / (found + true) if found + true else 0.0


def _touched(ones: NDArray[np.bool_], others: NDArray[np.bool_], voxel_ml: float) -> NDArray[np.int64]:
    """Components of ``ones``, and those that ``others`` overlaps, per size class (2, 4)."""
    labels, count = label_components(ones.T, connectivity=26)
    sizes_ml = np.bincount(labels.ravel(), minlength=count + 1)[1:] * voxel_ml
    classes = np.digitize(sizes_ml, np.array(EDGES_ML) * (1 - 1e-9))  # 100 voxels of 0.001 ml are 0.1 ml
    touched = np.unique(labels[others.T & (labels > 0)]) - 1
    return np.stack([np.bincount(chosen, minlength=len(SIZES)) for chosen in (classes, classes[touched])])
