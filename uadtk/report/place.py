"""Where a point of a brain lies, in words: side, lobe or part, depth below the surface, distance to the ventricles.

The lobe is that of ``preparation/lobes.py``, where the average brain fits this one. The ventricles are the lateral ones
of the average brain in ``preparation/tissues.npz``, laid over this brain by its centre and its size along each axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from uadtk.core.volume import Affine, Mask
from uadtk.kernels._box import bounding_box
from uadtk.preparation.lobes import lobes_at
from uadtk.report.axial_views import canonical

Array = NDArray[np.float64]
Point = tuple[float, float, float]

MIDLINE_MM = 5.0  # to either side
ABOUT_MM = 2.0  # voxels of the distance map
DEEP_MM = 18.0  # fluid at least this far below the surface is a ventricle


@dataclass(frozen=True)
class Place:
    """``surface_mm`` and ``ventricle_mm``: distances, 0 outside the brain and inside a ventricle."""

    side: str  # left, right or midline
    part: str  # such as "front, upper"; empty in the middle
    surface_mm: float
    ventricle_mm: float
    lobe: str = ""  # with its side, in place of side and part; empty where it is not known

    def __str__(self) -> str:
        near = "at the ventricles" if self.ventricle_mm < 3 else f"{self.ventricle_mm:.0f} mm from the ventricles"
        parts = [self.lobe or self.side, "" if self.lobe else self.part, f"{self.surface_mm:.0f} mm deep", near]
        return " · ".join(part for part in parts if part)


def places(brain: Mask, points_mm: Sequence[Point], average: Affine | None = None) -> list[Place]:
    """The place of each point (RAS+ mm of the scan). Without a brain there are no places: an empty list.

    ``average``: as in ``Gate``.
    """
    inside, affine = canonical(brain)
    if not len(points_mm) or not inside.any():
        return []
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    step = np.maximum(1, np.round(ABOUT_MM / spacing)).astype(int)
    box = bounding_box(inside)
    first = np.array([side.start for side in box])
    first -= first % (2 * step)  # an even number of steps: without the crop, halves would be rounded the same way
    coarse = np.pad(inside[tuple(slice(a, side.stop, n) for a, side, n in zip(first, box, step, strict=True))], 1)
    voxel_mm = spacing * step

    voxels = (np.array(points_mm) - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    at = (voxels - first) * spacing  # mm along the axes
    axes = [_Spread.of(coarse.sum(axis=tuple({0, 1, 2} - {axis})), mm) for axis, mm in enumerate(voxel_mm.tolist())]
    low, high, centre, std = np.array([(one.low, one.high, one.mean, one.std) for one in axes]).T
    atlas = _average()
    scale = np.maximum(std, 1e-3) / atlas.std_mm
    to_ventricle = _nearest(at, atlas.ventricles_mm * scale + centre)
    nearest = np.clip(np.round(at / voxel_mm).astype(int) + 1, 0, np.array(coarse.shape) - 1)
    to_surface = np.where(coarse[tuple(nearest.T)], _nearest(nearest * voxel_mm, _surface(coarse, voxel_mm)), 0.0)
    third = (at - low) / np.maximum(high - low, 1e-3)
    found = []
    lobes = lobes_at(average, points_mm)
    for point, share, deep, mm, lobe in zip(at, third, to_surface.tolist(), to_ventricle.tolist(), lobes, strict=True):
        across = float(point[0] - centre[0])
        side = "midline" if abs(across) < MIDLINE_MM else ("right" if across > 0 else "left")
        words = (_third(share[1], "back", "front"), _third(share[2], "lower", "upper"))
        part = ", ".join(word for word in words if word)
        found.append(Place(side, part, deep, max(0.0, mm - atlas.spacing_mm / 2), lobe))
    return found


@dataclass(frozen=True)
class _Spread:
    """Of the voxels of a brain along one axis, in mm: 0.1st and 99.9th percentile, mean and standard deviation."""

    low: float
    high: float
    mean: float
    std: float

    @classmethod
    def of(cls, counts: NDArray[np.intp], step_mm: float) -> _Spread:
        """``counts``: of voxels at each place, the first of which is at -1."""
        at, until = (np.arange(len(counts)) - 1) * step_mm, np.cumsum(counts)
        mean = float(counts @ at / until[-1])
        places = np.array([0.001, 0.999]) * (until[-1] - 1)
        below, above = (at[np.searchsorted(until, n, side="right")] for n in (np.floor(places), np.ceil(places)))
        low, high = (below + (above - below) * (places % 1)).tolist()
        return cls(low, high, mean, float(np.sqrt(counts @ (at - mean) ** 2 / until[-1])))


def _nearest(points: Array, others: Array) -> Array:
    """The distance of each point to the nearest of others, as few as they are: SciPy's tree takes longer to import."""
    return np.array([np.sqrt(((others - point) ** 2).sum(axis=1).min()) for point in points])


def _surface(inside: NDArray[np.bool_], voxel_mm: Array) -> Array:
    """Voxels outside that share a face with one inside, in mm: the nearest voxel outside is always among them."""
    from scipy import ndimage

    return np.argwhere(ndimage.binary_dilation(inside) & ~inside) * voxel_mm


def _third(share: float, first: str, last: str) -> str:
    return first if share < 1 / 3 else last if share > 2 / 3 else ""


@dataclass(frozen=True)
class _Average:
    ventricles_mm: Array  # (n, 3), from the centre of the brain
    std_mm: Array  # of all its points, along each axis
    spacing_mm: float


@cache
def _average() -> _Average:
    from scipy import ndimage

    with (files("uadtk.preparation") / "tissues.npz").open("rb") as file, np.load(file) as stored:
        maps, spacing_mm = stored["tissues"].astype(np.float64) / 255, float(stored["spacing_mm"])
    brain = np.pad(maps.sum(axis=0) > 0.5, 1)
    points = (np.argwhere(brain) - 1) * spacing_mm
    deep = ndimage.distance_transform_edt(brain, sampling=spacing_mm)[1:-1, 1:-1, 1:-1] >= DEEP_MM
    parts, count = ndimage.label((maps[0] > 0.4) & deep)
    largest = 1 + int(np.argmax(ndimage.sum_labels(parts > 0, parts, range(1, count + 1))))  # others are fissures
    ventricles = np.argwhere(parts == largest) * spacing_mm
    return _Average(ventricles - points.mean(axis=0), points.std(axis=0), spacing_mm)
