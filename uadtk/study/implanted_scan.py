"""Implants on a scan's own grid: irregular soft-edged ellipsoids in mm, averaged over each voxel.

An outline is a function of the place in mm, not an array, so the same implant can be put on any grid. Voxels that it
fills in part get their share, as in a scan with thick slices, and the planted volume does not depend on the grid. (The
implants of ``uadtk.networks.implants`` are something else: fast, two-dimensional, varied; a model may be trained on
them, which is one more reason not to measure with them.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uadtk.core.volume import Mask, Scan, Volume

Float = NDArray[np.float64]
Box = tuple[slice, slice, slice]

EDGE_MM = 1.0  # over which an implant fades into its surroundings
SOFTEST = 0.8  # of its mean radius: small implants have narrower edges
BUMPS = 0.15  # standard deviation of the logarithm of the radius over all directions
WAVES = 8
AROUND_MM = 4.0  # the contrast is relative to the tissue this near
STEP_MM = 1.0  # between the samples that are averaged over a voxel; finer for small implants


@dataclass(frozen=True)
class Outline:
    """A bumpy ellipsoid about 0: half axes (mm) along the rows of ``axes``, and the waves that make the bumps.

    ``edge`` is the width of its soft edge as a share of its radius; ``reach_mm``: it ends within this distance.
    """

    half_mm: Float
    axes: Float
    waves: Float
    phases: Float
    edge: float
    reach_mm: float

    def coverage(self, offset_mm: Float) -> Float:
        """The share of tissue that is implant, in [0, 1], at each offset (n, 3) from the centre."""
        scaled = (offset_mm @ self.axes.T) / self.half_mm
        length = np.sqrt((scaled**2).sum(axis=1))
        direction = scaled / np.maximum(length, 1e-9)[:, None]
        within = 1 - length / _radius(direction, self.waves, self.phases)
        return np.clip(0.5 + within / self.edge, 0.0, 1.0)


@dataclass(frozen=True)
class Wanted:
    size_mm: float
    contrast: float
    place: str

    @property
    def volume_ml(self) -> float:
        """Of a ball of this diameter."""
        return float(np.pi / 6 * self.size_mm**3 / 1000)


@dataclass(frozen=True)
class Implant:
    wanted: Wanted
    outline: Outline
    centre_mm: Float


def draw_outline(rng: np.random.Generator, size_mm: float) -> Outline:
    """One with the volume of a ball of diameter ``size_mm``, soft edge included."""
    from scipy.spatial.transform import Rotation

    stretch = rng.uniform(0.8, 1.25, 3)
    axes = Rotation.from_quat(rng.standard_normal(4)).as_matrix()
    waves = rng.standard_normal((WAVES, 3))
    waves *= (rng.uniform(2, 5, WAVES) / np.sqrt((waves**2).sum(axis=1)))[:, None]
    phases = rng.uniform(0, 2 * np.pi, WAVES)
    edge = min(EDGE_MM / (size_mm / 2), SOFTEST)
    radii = _radius(_directions(), waves, phases)
    # A soft edge adds to the volume: over the edge, the mean of u^3 is 1 + edge^2 / 4 for u about 1.
    mean_radius = np.cbrt((radii**3).mean() * (1 + edge**2 / 4) * stretch.prod())
    half_mm = size_mm / 2 / mean_radius * stretch
    reach = float(half_mm.max() * radii.max() * 1.05 * (1 + edge / 2))
    return Outline(half_mm, axes, waves, phases, edge, reach)


def on_grid(outline: Outline, centre_mm: Float, grid: Volume) -> tuple[Box, NDArray[np.float32]]:
    """The part of the grid that the outline may touch, and the share of each of its voxels that is implant."""
    backward = np.linalg.inv(grid.affine)
    centre = backward[:3, :3] @ centre_mm + backward[:3, 3]
    extent = outline.reach_mm * np.sqrt((backward[:3, :3] ** 2).sum(axis=1)) + 0.5
    low = np.maximum(np.ceil(centre - extent), 0).astype(int)
    high = np.minimum(np.floor(centre + extent) + 1, grid.shape).astype(int)
    step = min(STEP_MM, 0.25 * float(outline.half_mm.mean()))
    samples = [max(1, int(np.ceil(spacing / step))) for spacing in grid.spacing_mm]
    shape = tuple(np.maximum(high - low, 0).tolist())
    places = [
        np.repeat(np.arange(n), k) + start + (np.tile(np.arange(k), n) + 0.5) / k - 0.5
        for n, k, start in zip(shape, samples, low.tolist(), strict=True)
    ]
    voxels = np.stack(np.meshgrid(*places, indexing="ij"), axis=-1).reshape(-1, 3)
    share = outline.coverage((voxels - centre) @ grid.affine[:3, :3].T)
    parts = share.reshape([size for pair in zip(shape, samples, strict=True) for size in pair])
    x, y, z = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return (x, y, z), parts.mean(axis=(1, 3, 5)).astype(np.float32)


def implanted(
    scan: Scan, brain: Mask, tissue: NDArray[np.bool_], dark: float, implants: Sequence[Implant]
) -> tuple[Scan, list[tuple[Box, NDArray[np.float32]]]]:
    """The scan with implants in its brain, and the box and shares of each.

    An implant adds its contrast times the median intensity of the ``tissue`` around it, counted from ``dark``: the
    scan's own texture and noise stay.
    """
    voxels, shares = scan.voxels.copy(), []
    for implant in implants:
        box, share = on_grid(implant.outline, implant.centre_mm, scan)
        share *= brain.voxels[box]
        more = [math.ceil(AROUND_MM / spacing) for spacing in scan.spacing_mm]
        around = tuple(slice(max(0, s.start - n), s.stop + n) for s, n in zip(box, more, strict=True))
        level = float(np.median(scan.voxels[around][tissue[around]])) - dark
        voxels[box] += share * np.float32(implant.wanted.contrast * level)
        shares.append((box, share))
    return Scan(voxels, scan.affine, scan.header), shares


def inside_points(outline: Outline) -> Float:
    """Offsets (n, 3) in mm of a few hundred points spread evenly through the outline."""
    line = np.linspace(-outline.reach_mm, outline.reach_mm, 13)
    offsets = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
    return offsets[outline.coverage(offsets) >= 0.5]


def _radius(direction: Float, waves: Float, phases: Float) -> Float:
    """Of the bumpy unit ball in each direction (n, 3)."""
    total = np.zeros(len(direction))
    for wave, phase in zip(waves, phases, strict=True):  # one by one: all at once would be eight times the memory
        total += np.sin(direction @ wave + phase)
    return np.exp(BUMPS * total / np.sqrt(WAVES / 2))


def _directions(count: int = 2000) -> Float:
    """Evenly spaced on the sphere (a Fibonacci spiral)."""
    k = np.arange(count) + 0.5
    z = 1 - 2 * k / count
    turn = np.pi * (1 + np.sqrt(5)) * k
    return np.stack([np.cos(turn) * np.sqrt(1 - z**2), np.sin(turn) * np.sqrt(1 - z**2), z], axis=1)
