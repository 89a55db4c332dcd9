"""Lesions of a given volume, placed in an anatomy on the phantom's grid.

All lesions of a scan are represented by one signed distance to their border. Moving the border until the mask has the
requested volume works for any volume on any grid, including thick slices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uadtk.core.errors import UsageError
from uadtk.phantom.anatomy import Anatomy
from uadtk.phantom.fields import Field, smooth_field

Kind = Literal["none", "ms", "tumour"]
Spacing = tuple[float, float, float]
FAR = np.float32(-1e3)

DEFAULT_ML = {"ms": (3.0, 25.0), "tumour": (15.0, 80.0)}
DEFAULT_CONTRAST = {"ms": (1.35, 1.85), "tumour": (1.3, 1.9)}


@dataclass(frozen=True)
class Ovoid:
    """Centre (voxel), half-axes (mm) along the rows of ``axes``."""

    centre: NDArray[np.intp]
    half_mm: NDArray[np.float64]
    axes: NDArray[np.float64]


@dataclass(frozen=True)
class Border:
    """Signed distance (mm, positive inside) to the border of all lesions, within ``box`` of the thin-sliced grid.

    ``limit`` is a signed distance to the spared tissue, which lesions of any size do not cross.
    """

    box: tuple[slice, slice, slice]
    distance: Field
    limit: Field
    slices: int  # thin slices per thick slice; ``box`` starts and ends on thick slices

    @property
    def thick_box(self) -> tuple[slice, slice, slice]:
        x, y, z = self.box
        return x, y, slice(z.start // self.slices, z.stop // self.slices)

    def inside(self, grown: float) -> Field:
        """The distance after moving the border outwards by ``grown`` mm."""
        return np.asarray(np.minimum(self.distance + np.float32(grown), self.limit))

    def mask(self, grown: float) -> NDArray[np.bool_]:
        """The voxels of the thick grid that are at least half lesion."""
        return averaged(np.clip(self.inside(grown) + np.float32(0.5), 0, 1), self.slices) >= 0.5


def plan(
    rng: np.random.Generator, kind: Kind, ml: float, anatomy: Anatomy, where: Field, spacing: Spacing
) -> list[Ovoid]:
    """Place lesions: MS mostly next to the ventricles and pointing away from them, tumours deep in one hemisphere.

    ``where`` (3, x, y, z) are the anatomy coordinates of the phantom's voxels.
    """
    coarse = where[:, ::2, ::2, ::2]
    white = _look(anatomy.fractions["white"], coarse)
    near = _look(anatomy.near_ventricle, coarse)
    depth = _look(anatomy.depth_mm, coarse)
    if kind == "ms":
        weight = (white > 0.9) * (0.02 + near**2) * (depth >= 4)
    else:
        roomy = ndimage.uniform_filter(white, tuple(max(1, round(12 / s)) for s in spacing))
        weight = (white > 0.5) * roomy**3 * (depth >= 4)
    chances = weight.ravel().astype(np.float64)
    chances /= chances.sum()
    slope = np.stack(np.gradient(ndimage.gaussian_filter(near, 2), *(2 * s for s in spacing)))
    ovoids: list[Ovoid] = []
    for volume in _volumes(rng, kind, ml):
        at = np.array(np.unravel_index(rng.choice(chances.size, p=chances), white.shape))
        away = slope[:, *at] + 0.01 * rng.standard_normal(3)
        stretch = np.array(
            [rng.uniform(1.2, 2.2) if kind == "ms" else rng.uniform(1.0, 1.4), rng.uniform(0.85, 1.15), 1]
        )
        radius = np.cbrt(volume * 1000 / (4 / 3 * np.pi * stretch.prod()))
        ovoids.append(Ovoid(at * 2, radius * stretch, _frame(rng, away)))
    return ovoids


def _volumes(rng: np.random.Generator, kind: Kind, ml: float) -> list[float]:
    """Volumes that sum to ``ml``: many small (log-normal about 0.25 ml, 0.02 to 3) or one large, sometimes two."""
    if kind == "tumour":
        second = rng.uniform(0.1, 0.35) if rng.random() < 0.2 and ml > 10 else 0.0
        return [ml * (1 - second)] + [ml * second] * (second > 0)
    volumes: list[float] = []
    while (left := ml - sum(volumes)) > 0.02:
        volumes.append(min(left, float(np.clip(rng.lognormal(np.log(0.25), 1.0), 0.02, max(3.0, ml / 12)))))
    return volumes or [ml]


def _frame(rng: np.random.Generator, first: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormal rows, the first along ``first``."""
    one = first / np.linalg.norm(first)
    two = np.cross(one, rng.standard_normal(3))
    two /= np.linalg.norm(two)
    return np.stack([one, two, np.cross(one, two)])


def push_aside(where: Field, ovoids: list[Ovoid], spacing: Spacing, amount: float) -> None:
    """Mass effect, in place: tissue around each lesion is pushed outwards, at most (near its border) by about
    two thirds of ``amount`` times its radius."""
    step = [np.float32(np.median(np.diff(where[i], axis=i)) / spacing[i]) for i in range(3)]
    for ovoid in ovoids:
        offset = _offsets(where.shape[1:], ovoid, spacing)
        distance2 = sum(part**2 for part in offset) / np.float32((1.5 * ovoid.half_mm.mean()) ** 2)
        pull = np.float32(amount) * np.exp(-distance2)
        for i in range(3):
            where[i] -= step[i] * offset[i] * pull


def borders(
    rng: np.random.Generator,
    kind: Kind,
    ovoids: list[Ovoid],
    anatomy: Anatomy,
    where: Field,
    spacing: Spacing,
    slices: int,
) -> Border:
    """The lesions' border on the phantom's grid, made irregular by smooth noise and limited by the spared tissues."""
    shape = where.shape[1:]
    coarse_mm, fine_mm = (4, 2) if kind == "ms" else (14, 4)
    ragged = smooth_field(rng, shape, tuple(coarse_mm / s for s in spacing))
    ragged += np.float32(0.4) * smooth_field(rng, shape, tuple(fine_mm / s for s in spacing))
    out = np.full(shape, FAR)
    for ovoid in ovoids:
        reach = 1.6 * ovoid.half_mm.max() + 6
        box = tuple(
            slice(max(int(c - reach / s), 0), int(c + reach / s) + 2)
            for c, s in zip(ovoid.centre, spacing, strict=True)
        )
        offset = _offsets(shape, ovoid, spacing, box)
        scaled = sum(
            (sum(np.float32(axis[i]) * offset[i] for i in range(3)) / np.float32(half)) ** 2
            for axis, half in zip(ovoid.axes, ovoid.half_mm, strict=True)
        )
        radius = np.float32(ovoid.half_mm.min())
        inside = radius * (1 - np.sqrt(scaled)) + ragged[box] * min(np.float32(0.22) * radius, np.float32(4))
        out[box] = np.maximum(out[box], inside)
    x, y, z = (slice(v.min(), v.max() + 1) for v in np.nonzero(out > FAR))
    z = slice(z.start // slices * slices, -(-z.stop // slices) * slices)
    return Border((x, y, z), out[x, y, z], _limit(kind, anatomy, where[:, x, y, z]), slices)


def _limit(kind: Kind, anatomy: Anatomy, where: Field) -> Field:
    """Lesions end at the border of white matter (MS), or at ventricles and pia, sparing most cortex (tumours)."""
    parts = anatomy.fractions
    allowed = parts["white"] + parts["brainstem"] + parts["cerebellum_white"]
    if kind == "tumour":
        allowed = allowed + parts["deep"] + parts["cerebellum"] + np.float32(0.62) * parts["cortex"]
    return np.float32(5) * (_look(allowed, where) - np.float32(0.5))


def fit_volume(border: Border, brain: NDArray[np.bool_], ml: float, voxel_ml: float) -> float:
    """Distance in mm to move the border so that the mask inside ``brain`` has ``ml``.

    Raises
    ------
    UsageError
        The brain has no room for lesions of this volume.
    """
    within = brain[border.thick_box]
    wanted = ml / voxel_ml
    low, high = -30.0, 30.0
    for _ in range(24):
        middle = (low + high) / 2
        enough = (border.mask(middle) & within).sum() >= wanted
        low, high = (low, middle) if enough else (middle, high)
    got = int((border.mask(high) & within).sum())
    if abs(got - wanted) > max(0.1 * wanted, 2):
        fix = "Reduce lesion_ml or change the seed."
        raise UsageError(
            f"lesions of {ml:g} ml do not fit into this brain (at most {got * voxel_ml:.2g} ml)", "lesion_ml", fix
        )
    return high


def averaged(volume: Field, slices: int) -> Field:
    """The mean of every ``slices`` consecutive slices along z."""
    if slices == 1:
        return volume
    x, y, z = volume.shape
    return np.asarray(volume.reshape(x, y, z // slices, slices).mean(axis=3, dtype=np.float32))


def _offsets(
    shape: tuple[int, ...], ovoid: Ovoid, spacing: Spacing, box: tuple[slice, ...] = (slice(None),) * 3
) -> list[Field]:
    """Distance in mm from the centre along each axis of the grid, for broadcasting."""
    axes = [((np.arange(n) - c) * s).astype(np.float32) for n, c, s in zip(shape, ovoid.centre, spacing, strict=True)]
    return list(np.ix_(*(axis[part] for axis, part in zip(axes, box, strict=True))))


def _look(volume: Field, where: Field) -> Field:
    return np.asarray(ndimage.map_coordinates(volume, where, order=1, output=np.float32))
