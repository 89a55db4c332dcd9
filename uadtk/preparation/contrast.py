"""The order of tissues in a brain, which distinguishes a FLAIR from a T1 or T2: is fluid dark, is white above grey?

An average brain (``tissues.npz``: fluid, grey and white matter on 4 mm voxels) is aligned to this one, first by centre
and size, then so that its tissues explain the image best. Intensities are ranks, which removes scale, offset and the
influence of bright lesions; slow changes over 12 mm and more are removed, and with them bias fields and tumours. The
rest is regressed on the tissues, from which the slow part is removed too.

``tissues.npz`` is made by ``benchmarks/tissue_prior.py`` from the ICBM 152 nonlinear symmetric 2009a atlas. Copyright
(C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill University.
Permission to use, copy, modify, and distribute this software and its documentation for any purpose and without fee is
hereby granted, provided that the above copyright notice appear in all copies. The authors and McGill University make no
representations about the suitability of this software for any purpose. It is provided "as is" without express or
implied warranty. The authors are not responsible for any data loss, equipment damage, property loss, or injury to
subjects or patients resulting from the use or misuse of this software package.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk.core.volume import Affine, Mask, Scan, Volume, moved
from uadtk.kernels._box import bounding_box
from uadtk.preparation.geometry import Reorientation, resampling_matrix

Array = NDArray[np.float64]

COARSE_MM = 3.0  # of the grid used here
SLOW_MM = 12.0  # standard deviation of the Gaussian that separates slow changes
EVERY = 7  # of the atlas' points is used while aligning
STEPS = np.repeat([0.4, 0.06, 0.08], 3)  # of each parameter in the first round; each further one halves them
ROUNDS = 3
RIDGE = 1e-6
_MEASURED: dict[bytes, tuple[Contrast, Array, Array]] = {}  # with the transform to voxels of the brain


@dataclass(frozen=True)
class Contrast:
    """Tissues of one scan, as ranks within its brain (0 darkest, 1 brightest).

    ``white``: white matter less grey. ``fluid``: fluid less grey. ``worst_white``: ``white`` in that quarter of the
    brain, left or right and front or back, where it is least: a lesion is rarely everywhere. ``explained``: share of
    the variance that tissues explain. ``overlap``: Dice overlap of the brain with the average one.
    """

    white: float
    fluid: float
    worst_white: float
    explained: float
    overlap: float


@dataclass(frozen=True)
class Coarse:
    """A brain on coarse RAS+ voxels: mean ``image`` of the part inside, ``inside`` as a share, ``spacing_mm``.

    ``affine``: from these voxels to RAS+ mm of the scan.
    """

    image: Array
    inside: Array
    spacing_mm: Array
    affine: Affine

    @cached_property
    def values(self) -> Array:
        """The intensities of the brain, sorted: their quantiles are then fast."""
        return np.sort(self.image[self.inside > 0.5])


def coarse(scan: Scan, brain: Mask) -> Coarse:
    """The box of the brain on voxels of about 3 mm, or of the scan's own spacing where that is larger."""
    from uadtk.kernels._numba.resampling import resampled_volume

    turn = Reorientation.of(scan.affine)
    upright, mask = turn.to_ras(Volume(scan.voxels, scan.affine)), turn.to_ras(brain)
    box = bounding_box(mask.voxels)
    inside = np.ascontiguousarray(mask.voxels[box].T, dtype=np.float32)  # (z, y, x), the order of a file
    image = upright.voxels[box].T * inside
    spacing_mm, affine, (_, y, x) = list(upright.spacing_mm), moved(upright.affine, box), inside.shape
    matrices: list[Any] = [np.eye(x, dtype=np.float32), np.eye(y, dtype=np.float32), None]
    for axis, mm in enumerate(upright.spacing_mm):
        size = inside.shape[2 - axis]
        if mm < COARSE_MM and size > 1:
            number = max(2, round(size * mm / COARSE_MM))
            matrices[axis] = resampling_matrix((np.arange(number) + 0.5) * size / number - 0.5, size)
            spacing_mm[axis] = mm * size / number
            affine[:3, 3] += affine[:3, axis] * (size / number - 1) / 2
            affine[:3, axis] *= size / number
    image, inside = (np.ascontiguousarray(resampled_volume(one, *matrices[::-1]).T) for one in (image, inside))
    share = np.where(inside > 1e-3, inside, 0.0)
    mean = np.where(share > 0, image / np.maximum(share, 1e-3), 0.0)
    return Coarse(mean, share, np.array(spacing_mm), affine)


def tissue_contrast(brain: Coarse) -> Contrast:
    """Align the average brain to this one and measure the tissues. Needs about 100 voxels of brain.

    Results are kept while the process lives: a benchmark looks at the same scans for every row.
    """
    return _aligned(brain)[0]


def to_average(brain: Coarse) -> Affine:
    """From RAS+ mm of the scan to those of the average brain, whose origin is its centre; costs nothing after that.

    Rounded, since the last digits depend on the threads.
    """
    _, matrix, offset = _aligned(brain)
    voxels = np.eye(4)
    voxels[:3, :3], voxels[:3, 3] = matrix, offset
    return np.round(np.linalg.inv(brain.affine @ voxels), 4)


def _aligned(brain: Coarse) -> tuple[Contrast, Array, Array]:
    digest = hashlib.sha256(repr((brain.image.shape, brain.spacing_mm.tolist())).encode())
    for array in (brain.image, brain.inside):
        digest.update(array.tobytes())
    if digest.digest() not in _MEASURED:
        fit = _Fit(brain)
        parameters = fit.aligned()
        _MEASURED[digest.digest()] = _measured(fit, parameters), *fit.transform(parameters)
    return _MEASURED[digest.digest()]


def _measured(fit: _Fit, parameters: Array) -> Contrast:
    atlas = _atlas()
    weight, ranks, overlap = fit.sample(parameters, atlas)
    weight = np.where(weight > 0.7, weight, 0.0)
    detail, *both = _details([ranks, atlas.tissues[:, 0], atlas.tissues[:, 2]], weight, atlas)
    parts = np.column_stack(both)
    (fluid, white), explained = _regress(parts, detail, weight)
    left, front = (atlas.inside[:, axis] > 0 for axis in (0, 1))
    quarters = [(left == side) & (front == end) for side in (False, True) for end in (False, True)]
    seen = [q for q in quarters if weight[q].sum() > 0.1 * weight.sum()] or [weight > 0]
    worst = min(_regress(parts[q], detail[q], weight[q])[0][1] for q in seen)
    return Contrast(float(white), float(fluid), float(worst), float(explained), overlap)


@dataclass(frozen=True)
class _Points:
    """mm from the centre of the average brain, (n, 3), inside it and just around it; tissues (n, 3) of those inside."""

    inside: Array
    outside: Array
    tissues: Array


@dataclass(frozen=True)
class _Atlas(_Points):
    shape: tuple[int, ...]
    where: NDArray[np.bool_]
    spacing_mm: float


@cache
def _atlas() -> _Atlas:
    from scipy import ndimage

    with np.load(Path(__file__).with_name("tissues.npz")) as stored:
        maps, spacing_mm = stored["tissues"].astype(np.float64) / 255, float(stored["spacing_mm"])
    where = maps.sum(axis=0) > 0.5
    wide = np.pad(where, 3)
    around = np.argwhere(ndimage.binary_dilation(wide, iterations=2) & ~wide) - 3
    points = np.argwhere(where)
    centre = points.mean(axis=0)
    inside, outside = ((x - centre) * spacing_mm for x in (points, around))
    return _Atlas(inside, outside, maps[:, where].T, where.shape, where, spacing_mm)


@cache
def _few() -> _Points:
    """Those used while aligning."""
    atlas = _atlas()
    return _Points(*(np.ascontiguousarray(x[::EVERY]) for x in (atlas.inside, atlas.outside, atlas.tissues)))


class _Fit:
    """The ranks of one brain, and how well the average brain fits it under a transform of nine parameters.

    Parameters: shift (cm), logarithm of the size beside the brain's own, rotation (radians); along and about R, A, S.
    """

    def __init__(self, brain: Coarse) -> None:
        self.brain = brain
        inside = brain.inside > 0.5
        both = np.stack([brain.inside, _ranks(brain.image, brain.values) * brain.inside], axis=-1, dtype=np.float32)
        self.both = np.ascontiguousarray(both)
        at_mm = (np.argwhere(inside) + 0.5) * brain.spacing_mm
        self.centre_mm = at_mm.mean(axis=0)
        self.scale = np.maximum(at_mm.std(axis=0), 1.0) / _atlas().inside.std(axis=0)

    def aligned(self) -> Array:
        """The parameters with the least misfit that were found.

        One after the other moves to the best of where it is, a step to either side, and the vertex of the parabola
        through the three.
        """
        few, best = _few(), np.zeros(len(STEPS))
        least = self.misfit(best, few)
        for rounds in range(ROUNDS):
            for step in np.diag(STEPS / 2**rounds):
                ahead, back = self.misfit(best + step, few), self.misfit(best - step, few)
                slope, bend = (back - ahead) / 2, ahead + back - 2 * least
                vertex = float(np.clip(slope / bend, -2, 2)) if bend > 0 else 2 * float(np.sign(slope))
                at_vertex = self.misfit(best + vertex * step, few)
                least, move = min((least, 0.0), (ahead, 1.0), (back, -1.0), (at_vertex, vertex))
                best = best + move * step
        return best

    def places(self, parameters: Array, points: Array) -> Array:
        """Where points of the average brain lie, in voxels of this one, (3, n)."""
        matrix, offset = self.transform(parameters)
        voxels: Array = matrix @ points.T + offset[:, None]
        return voxels

    def transform(self, parameters: Array) -> tuple[Array, Array]:
        """From mm in the average brain to voxels of this one: ``matrix @ point + offset``."""
        matrix = _rotation(parameters[6:9]) * (self.scale * np.exp(parameters[3:6])) / self.brain.spacing_mm[:, None]
        return matrix, (self.centre_mm + 10 * parameters[:3]) / self.brain.spacing_mm - 0.5

    def sample(self, parameters: Array, points: _Points) -> tuple[Array, Array, float]:
        """Share of brain at the points inside, ranks there, and the Dice overlap of the two brains.

        Overlap among the slices that the scan has: one that stops early can still be aligned.
        """
        from scipy import ndimage

        places = self.places(parameters, points.inside)
        inside, ranked = np.moveaxis(self.both, -1, 0)
        share = ndimage.map_coordinates(inside, places, order=1)
        ranks = ndimage.map_coordinates(ranked, places, order=1) / np.maximum(share, 1e-3)
        beyond = ndimage.map_coordinates(inside, self.places(parameters, points.outside), order=1)
        covered = (places[2] > -0.5) & (places[2] < inside.shape[2] - 0.5)
        common = float(share[covered].sum())
        return share, ranks, 2 * common / (float(covered.sum()) + common + float(beyond.sum()) + 1e-9)

    def misfit(self, parameters: Array, points: _Points) -> float:
        """Least where the tissues explain the ranks and the brains overlap, without implausible sizes and angles."""
        from uadtk.kernels._numba.alignment import explained_and_overlap

        matrix, offset = self.transform(parameters)
        explained, overlap = explained_and_overlap(
            self.both, matrix, offset, points.inside, points.tissues, points.outside, RIDGE
        )
        implausible = 0.5 * np.sum((parameters[3:6] / 0.3) ** 4) + 0.5 * np.sum((parameters[6:9] / 0.5) ** 4)
        return float(implausible - explained - 2 * overlap)


def _ranks(image: Array, values: Array) -> Array:
    """Share of the brain's ``values`` that are darker, interpolated between 65 quantiles."""
    steps = np.linspace(0, 1, 65)
    levels = np.quantile(values, steps)
    levels = levels + steps * 1e-6 * max(levels[-1] - levels[0], 1e-30)  # rising also where many voxels are equal
    ranks: Array = np.interp(image, levels, steps)
    return ranks


def _details(columns: Sequence[Array], weight: Array, atlas: _Atlas) -> list[Array]:
    """Each column of values minus its weighted local mean."""
    grid = np.zeros((len(columns) + 1, *atlas.shape), np.float32)
    grid[:, atlas.where] = [weight, *(values * weight for values in columns)]
    x, y, z = _slow()
    count, *sums = (y @ np.tensordot(grid, x, (1, 1)).transpose(0, 3, 1, 2) @ z.T)[:, atlas.where]
    return [values - total / np.maximum(count, 1e-3) for values, total in zip(columns, sums, strict=True)]


@cache
def _slow() -> list[NDArray[np.float32]]:
    """Gaussians along the axes of the atlas' grid, as matrices: on so small a grid faster than a filter."""
    from scipy import ndimage

    sigma = SLOW_MM / _atlas().spacing_mm
    return [ndimage.gaussian_filter1d(np.eye(n, dtype=np.float32), sigma, axis=0) for n in _atlas().shape]


def _regress(parts: Array, values: Array, weight: Array) -> tuple[Array, float]:
    """Weighted least squares: coefficients, and the share of the squares that is explained."""
    weighted = parts * weight[:, None]
    total = float(weight.sum()) + 1e-9
    normal = weighted.T @ parts + RIDGE * total * np.eye(parts.shape[1])
    found = np.asarray(np.linalg.solve(normal, weighted.T @ values), dtype=np.float64)
    return found, 1 - float(weight @ (values - parts @ found) ** 2) / (float(weight @ values**2) + 1e-9)


def _rotation(angles: Array) -> Array:
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    rotation: Array = about_x @ about_y @ about_z
    return rotation
