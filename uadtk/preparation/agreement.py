"""Do two aligned scans show one head, and how much of it do both cover?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uadtk.core.volume import Affine, Mask, Scan

STEP_MM = 2.0  # of the points that are compared
FAR = 3.0
FINE_MM, COARSE_MM = 1.5, 6.0  # standard deviations of the smoothing: detail lies between the two


@dataclass(frozen=True)
class Agreement:
    """``detail``: correlation of what is finer than about 15 mm (sulci, ventricles), in both brains, outside findings.

    ``overlap``: Dice of the two brains where both scans have voxels. ``covered``: share of the first brain that lies in
    the field of the second scan, and of the second brain in that of the first.
    """

    detail: float
    overlap: float
    covered: tuple[float, float]


@dataclass(frozen=True)
class Head:
    """A scan, its brain, and the findings, which may differ between two scans of one head; all on one grid."""

    scan: Scan
    brain: Mask
    findings: Mask


def agreement(before: Head, after: Head, to_after: Affine) -> Agreement:
    """Compare two scans after alignment; ``to_after`` maps RAS+ mm of the first to those of the second."""
    own, its = before.scan, after.scan
    step = tuple(max(1, round(STEP_MM / mm)) for mm in own.spacing_mm)
    every = tuple(slice(s // 2, None, s) for s in step)
    mm = np.array(own.spacing_mm) * step
    there = np.linalg.inv(its.affine) @ to_after @ own.affine
    grid = np.meshgrid(*(np.arange(n)[part] for n, part in zip(own.shape, every, strict=True)), indexing="ij")
    place = np.tensordot(there[:3, :3], np.stack(grid), 1) + there[:3, 3].reshape(3, 1, 1, 1)
    field = ((place >= -0.5) & (place <= np.array(its.shape).reshape(3, 1, 1, 1) - 0.5)).all(axis=0)
    first, second = before.brain.voxels[every], field & _there(after.brain, place)
    normal = first & second & ~before.findings.voxels[every] & ~_there(after.findings, place)
    ours = _detail(_smooth(before)[every], normal, mm)
    theirs = _detail(ndimage.map_coordinates(_smooth(after), place, order=1, mode="nearest"), normal, mm)
    detail = float(np.corrcoef(ours, theirs)[0, 1]) if normal.any() and ours.std() and theirs.std() else 0.0
    seen, both = first & field, first & second
    step_ml = own.voxel_ml * float(np.prod(step))
    its_ml = int(np.count_nonzero(after.brain.voxels)) * its.voxel_ml
    return Agreement(
        detail,
        2 * float(both.sum()) / max(1.0, float(seen.sum() + second.sum())),
        (float(seen.sum()) / max(1, int(first.sum())), min(1.0, float(second.sum()) * step_ml / its_ml)),
    )


def _there(mask: Mask, place: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The mask at voxel coordinates (3, x, y, z); False outside."""
    return np.asarray(ndimage.map_coordinates(mask.voxels.astype(np.uint8), place, order=0) > 0)


def _smooth(head: Head) -> NDArray[np.float32]:
    """The normal brain alone, so that neither skull nor findings blur into it."""
    sigma = [FINE_MM / mm for mm in head.scan.spacing_mm]
    return _blurred(head.scan.voxels, head.brain.voxels & ~head.findings.voxels, sigma)


def _detail(values: NDArray[Any], inside: NDArray[np.bool_], mm: NDArray[Any]) -> NDArray[np.float32]:
    """Values beyond ``FAR`` robust standard deviations are cut: a lesion that was not found must not decide."""
    fine = (values - _blurred(values, inside, (COARSE_MM / mm).tolist()))[inside]
    spread = FAR * float(np.median(np.abs(fine))) / 0.6745 if fine.size else 0.0
    return np.clip(fine, -spread, spread)


def _blurred(values: NDArray[Any], inside: NDArray[np.bool_], sigma: list[float]) -> NDArray[np.float32]:
    """Gaussian mean of the voxels inside."""
    weight = ndimage.gaussian_filter(inside.astype(np.float32), sigma)
    total = ndimage.gaussian_filter(np.where(inside, values, 0).astype(np.float32), sigma)
    return np.asarray(total / np.maximum(weight, 1e-6))
