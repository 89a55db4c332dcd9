"""Where implants go: in tissue of a stated place, away from what is known or marked already, and from each other.

Places are distances in mm, so no atlas is needed and any orientation will do: ``base`` is the lowest 45 mm of the brain
(posterior fossa, temporal base); above it, ``rim`` implants come within 5 mm of the brain's border, and ``deep`` ones
stay 10 mm away from it. The implants of a pass are at least 40 mm apart and together at most 1.5 % of the brain, so
that they change neither each other's surroundings nor the intensity scale of the scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from uadtk.core.volume import Mask, Scan
from uadtk.kernels._box import bounding_box
from uadtk.metrics.detection import PLACES
from uadtk.study.implanted_scan import Float, Implant, Outline, Wanted, draw_outline, inside_points, on_grid

Bool = NDArray[np.bool_]

BASE_MM, RIM_MM, DEEP_MM = 45.0, 5.0, 10.0
APART_MM = 40.0  # between the surfaces of two implants of one pass
AWAY_MM = 5.0  # from known lesions and from what is marked without implants
MOST_BRAIN = 0.015
IN_BRAIN, IN_TISSUE = 0.97, 0.7  # of an implant; the rest may be fluid in sulci and ventricles
TISSUE = 0.6  # of the brain's median intensity: fluid is darker
WHOLE = 0.95  # of the stated volume, once it is on the grid
SPOTS, TRIES, WHOLE_TRIES = 20000, 300, 10


@dataclass(frozen=True)
class Ground:
    """Random voxels of a scan's tissue that an implant may be centred on, (n, 3) in mm, and what is known of each.

    ``depth_mm`` below the brain's border, ``height_mm`` above its lowest part, ``clear_mm`` from the nearest voxel that
    is marked or no known normal tissue.
    """

    scan: Scan
    free: Bool
    tissue: Bool
    brain_ml: float
    spots_mm: Float
    depth_mm: Float
    height_mm: Float
    clear_mm: Float


def survey(scan: Scan, brain: Mask, normal: Bool, marked: Bool, dark: float, rng: np.random.Generator) -> Ground:
    """The ground for implants in the ``normal`` part of the brain; ``dark`` is the scan's intensity of nothing."""
    inner = bounding_box(brain.voxels)
    inside = brain.voxels[inner]
    median = float(np.median(scan.voxels[brain.voxels])) - dark
    free = brain.voxels & normal
    tissue = free & (scan.voxels - np.float32(dark) > np.float32(TISSUE * median))
    depth = distance_transform_edt(np.pad(inside, 1), sampling=scan.spacing_mm)[1:-1, 1:-1, 1:-1]
    blocked = (brain.voxels & ~normal) | marked
    away = np.full(inside.shape, np.inf)
    if blocked[inner].any():
        away = distance_transform_edt(~blocked[inner], sampling=scan.spacing_mm)
    height = _to_mm(np.argwhere(brain.voxels), scan)[:, 2]
    spots = np.argwhere(tissue)
    spots = spots[np.sort(rng.permutation(len(spots))[:SPOTS])]
    at = tuple((spots - [part.start for part in inner]).T)
    spots_mm = _to_mm(spots, scan)
    return Ground(
        scan,
        free,
        tissue,
        np.count_nonzero(brain.voxels) * brain.voxel_ml,
        spots_mm,
        depth[at],
        spots_mm[:, 2] - float(np.quantile(height, 0.001)),
        away[at],
    )


def plan(
    ground: Ground, wanted: Sequence[Wanted], rng: np.random.Generator
) -> tuple[list[list[Implant]], list[Wanted]]:
    """Passes that hold each implant once, the large ones first; and those for which there is no room."""
    passes: list[list[Implant]] = []
    left_out = []
    shuffled = [wanted[k] for k in rng.permutation(len(wanted))]
    for one in sorted(shuffled, key=lambda one: -one.size_mm):
        outline = draw_outline(rng, one.size_mm)
        spots = _spots(ground, one, outline, rng)
        for others in passes:
            together = [*(other.wanted for other in others), one]
            if sum(each.volume_ml for each in together) <= MOST_BRAIN * ground.brain_ml:
                spot = _first_whole(ground, one, outline, spots[_apart(spots, one, others)])
                if spot is not None:
                    others.append(Implant(one, outline, spot))
                    break
        else:
            spot = _first_whole(ground, one, outline, spots)
            if spot is None:
                left_out.append(one)
            else:
                passes.append([Implant(one, outline, spot)])
    return passes, left_out


def every(sizes: Sequence[float], contrasts: Sequence[float], repeats: int) -> list[Wanted]:
    """``repeats`` implants of each size and contrast in each place."""
    return [Wanted(*one) for one in product(sizes, contrasts, PLACES)] * repeats


def _spots(ground: Ground, one: Wanted, outline: Outline, rng: np.random.Generator) -> Float:
    """Centres in random order at which the implant lies in the brain, mostly in tissue, and in its place."""
    order = rng.permutation(len(ground.spots_mm))
    spots = order[_in_place(ground, one)[order]][:TRIES]
    centres = ground.spots_mm[spots]
    points = inside_points(outline)
    backward = np.linalg.inv(ground.scan.affine)
    voxels = (centres[:, None] + points) @ backward[:3, :3].T + backward[:3, 3]
    where = np.rint(voxels).astype(int)
    within = ((where >= 0) & (where < ground.scan.shape)).all(axis=2)
    at = tuple(np.moveaxis(np.clip(where, 0, np.array(ground.scan.shape) - 1), 2, 0))
    brain, tissue = ((within & mask[at]).mean(axis=1) for mask in (ground.free, ground.tissue))
    return centres[(brain >= IN_BRAIN) & (tissue >= IN_TISSUE)]


def _first_whole(ground: Ground, one: Wanted, outline: Outline, spots: Float) -> Float | None:
    """The first of a few centres at which the brain's border cuts off less than 5 % of the implant."""
    for spot in spots[:WHOLE_TRIES]:
        box, share = on_grid(outline, spot, ground.scan)
        if float(share[ground.free[box]].sum(dtype=np.float64)) * ground.scan.voxel_ml >= WHOLE * one.volume_ml:
            return np.asarray(spot)
    return None


def _in_place(ground: Ground, one: Wanted) -> Bool:
    radius = one.size_mm / 2
    below = ground.depth_mm - radius
    low = ground.height_mm < BASE_MM
    here = {"base": low, "rim": ~low & (below <= RIM_MM), "deep": ~low & (below >= DEEP_MM)}[one.place]
    return np.asarray(here & (ground.clear_mm >= radius + AWAY_MM))


def _apart(spots: Float, one: Wanted, others: Sequence[Implant]) -> Bool:
    far = np.ones(len(spots), dtype=bool)
    for other in others:
        between = np.sqrt(((spots - other.centre_mm) ** 2).sum(axis=1))
        far &= between - (one.size_mm + other.wanted.size_mm) / 2 >= APART_MM
    return far


def _to_mm(voxels: NDArray[np.intp], scan: Scan) -> Float:
    return np.asarray(voxels @ scan.affine[:3, :3].T + scan.affine[:3, 3])
