"""Measurements of a brain and its image: size, coverage, noise, ghosts, bias."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from uadtk.core.volume import Mask, Scan, Volume
from uadtk.kernels import erode
from uadtk.kernels._box import bounding_box
from uadtk.preparation.background import background
from uadtk.preparation.contrast import Coarse
from uadtk.preparation.geometry import Reorientation

Array = NDArray[np.float64]

SLICES = 9  # axial slices that noise and ghosts are measured in
GHOST_MM = 25.0  # nearer repetitions are anatomy


def measure(scan: Scan, brain: Mask, low: Coarse) -> dict[str, float]:
    """All measurements by name; lengths in mm, volume in ml, shares of 1. See ``gate.py`` for the limits."""
    turn = Reorientation.of(scan.affine)
    image, inside = turn.to_ras(Volume(scan.voxels, scan.affine)).voxels, turn.to_ras(brain)
    box, spacing_mm = bounding_box(inside.voxels), inside.spacing_mm
    width, length, height = ((box[axis].stop - box[axis].start) * spacing_mm[axis] for axis in range(3))
    values = low.values
    dark, bright = _ends(values, background(scan))
    levels = (np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.999)) - dark) / (bright - dark)
    return {
        "volume_ml": float(np.count_nonzero(inside.voxels)) * brain.voxel_ml,
        "width_mm": width,
        "length_mm": length,
        "height_mm": height,
        "filled": float((low.inside > 0.5).mean()),
        "largest_part": _largest_part(low),
        "in_plane_mm": max(spacing_mm[:2]),
        "slice_mm": spacing_mm[2],
        **_cut(inside.voxels[box], inside.shape, box),
        **{f"level_{percent}": value for percent, value in zip((5, 25, 50, 75, 99.9), levels.tolist(), strict=True)},
        "bias": _bias(low, dark, bright),
        **_texture(image[box], inside.voxels[box], spacing_mm, float(np.median(values)) - dark),
    }


def _ends(values: Array, level: float) -> tuple[float, float]:
    """The intensities that count as 0 and 1: background and 98th percentile of the brain.

    If some of the brain is darker than the background, its 1st percentile is used instead.
    """
    lowest, bright = np.quantile(values, (0.01, 0.98)).tolist()
    dark = min(level, lowest) if np.mean(values < level) < 0.02 else lowest
    return dark, max(bright, dark + 1e-30)


def _largest_part(low: Coarse) -> float:
    """Share of the brain in its largest connected component."""
    from scipy import ndimage

    labels, _ = ndimage.label(low.inside > 0.5)
    sizes = np.bincount(labels.ravel())[1:]
    return float(sizes.max() / sizes.sum()) if len(sizes) else 0.0


def _cut(inside: NDArray[np.bool_], shape: tuple[int, ...], box: tuple[slice, ...]) -> dict[str, float]:
    """Where the field cuts the brain: its area there, as a share of its largest area along that axis.

    ``inside``: the part ``box`` of a volume of that shape.
    """
    cut = {}
    for axis, names in enumerate((("left", "right"), ("back", "front"), ("bottom", "top"))):
        ends = box[axis].start == 0, box[axis].stop == shape[axis]
        areas = inside.sum(axis=tuple({0, 1, 2} - {axis})).astype(float) if any(ends) else np.ones(1)
        for name, there, at in zip(names, ends, (0, -1), strict=True):
            cut[f"cut_{name}"] = float(areas[at] / areas.max()) if there else 0.0
    return cut


def _bias(low: Coarse, dark: float, bright: float) -> float:
    """Standard deviation of the plane and bowl that fit the brain best, as a share of its median above its dark end."""
    inside = low.inside > 0.9
    if inside.sum() < 200:
        return 0.0
    values = np.clip(low.image[inside], dark, bright)
    places = np.argwhere(inside) * low.spacing_mm
    places = (places - places.mean(axis=0)) / np.maximum(places.std(axis=0), 1e-9)
    x, y, z = places.T
    basis = np.column_stack([np.ones(len(x)), x, y, z, x * x, y * y, z * z, x * y, x * z, y * z])
    typical = (values > np.quantile(values, 0.25)) & (values < np.quantile(values, 0.95))  # no fluid, no lesion
    part = basis[typical]
    found = np.linalg.lstsq(part.T @ part, part.T @ values[typical], rcond=1e-10)[0]
    return float((basis @ found).std() / max(np.median(values) - dark, 1e-30))


def _texture(
    image: NDArray[np.float32], inside: NDArray[np.bool_], spacing_mm: tuple[float, ...], middle: float
) -> dict[str, float]:
    """Noise and ghosts in slices of the brain's middle, and jumps between slices; ``middle``: its brightness."""
    areas = inside.sum(axis=(0, 1))
    large = np.flatnonzero(areas > 0.5 * areas.max())
    chosen = large[np.unique(np.linspace(0, len(large) - 1, min(SLICES, len(large))).round().astype(int))]
    scale = max(middle, 1e-30)
    noises, repeats = [], []
    for k in chosen:
        flat = np.where(inside[:, :, k], image[:, :, k], np.float32(0))
        noises.append(_noise(flat, inside[:, :, k]) / scale)
        repeats.append(_repeat(flat, inside[:, :, k], spacing_mm))
    return {
        "noise": float(np.median(noises)),
        "ghosts": float(np.median(repeats)),
        "jumps": _jumps(image, inside, large) / scale,
    }


def _noise(image: NDArray[np.float32], inside: NDArray[np.bool_]) -> float:
    """Standard deviation of the noise, by the median response to [1 -2 1] x [1 -2 1] (Immerkaer 1996)."""
    once = image[:-2] - 2 * image[1:-1] + image[2:]
    left = once[:, :-2] - 2 * once[:, 1:-1] + once[:, 2:]
    whole = inside[:-2] & inside[1:-1] & inside[2:]
    whole = whole[:, :-2] & whole[:, 1:-1] & whole[:, 2:]
    return float(np.median(np.abs(left[whole])) / 0.6745 / 6) if whole.any() else 0.0


def _repeat(image: NDArray[np.float32], inside: NDArray[np.bool_], spacing_mm: tuple[float, ...]) -> float:
    """The strongest repetition of the fine structure at a distance along rows or columns: ghosts of motion.

    Autocorrelation of what is left after a mean over 5 x 5 mm, at shifts above 25 mm along either axis, each over
    the pixels that overlap; less the median over shifts and in units of its own.
    """
    from scipy import ndimage

    core = erode(inside[None], 2, per_slice=True)[0]
    if core.sum() < 100:
        return 0.0
    slow = image
    for axis in (0, 1):
        slow = ndimage.correlate1d(slow, _window(5 / spacing_mm[axis]), axis)
    fine = np.where(core, image - slow, np.float32(0))
    fine = np.clip(fine / max(fine[core].std(), 1e-30), -3, 3)
    strongest = 0.0
    for axis in (0, 1):
        first = int(np.ceil(GHOST_MM / spacing_mm[axis]))
        line, count = _at_shifts(fine, axis, first), _at_shifts(core.astype(np.float32), axis, first).round()
        enough = count > 0.15 * core.sum()
        if enough.sum() > 5:
            shares = line[enough] / count[enough]
            strongest = max(strongest, float(shares.max() - np.median(shares)))
    return strongest


def _at_shifts(image: NDArray[np.float32], axis: int, first: int) -> NDArray[np.float32]:
    """Autocorrelation at shifts of ``first`` pixels and more along ``axis``: the sum over all lines along it."""
    lines = image if axis == 0 else image.T
    size = max(len(lines) - first, 1)
    wide = np.zeros((size, 2 * size), image.dtype)
    wide[:, :size] = lines[size - 1 :: -1] @ lines[-size:].T
    skewed = wide.ravel()[: size * (2 * size - 1)].reshape(size, -1)  # a shift is a column
    found: NDArray[np.float32] = skewed.sum(axis=0)[size - 1 :]
    return found


def _window(width: float) -> Array:
    """Weights of a mean over ``width`` pixels, at least 3; the outermost count in part, so that no width is rounded."""
    width = max(width, 3.0)
    reach = int(np.ceil((width - 1) / 2))
    return np.clip((width + 1) / 2 - np.abs(np.arange(-reach, reach + 1)), 0.0, 1.0) / width


def _jumps(image: NDArray[np.float32], inside: NDArray[np.bool_], slices: NDArray[np.intp]) -> float:
    """Difference in brightness between a slice and the mean of its two neighbours: the median over slices."""
    some, there = np.ascontiguousarray(image[::2, ::2].T), np.ascontiguousarray(inside[::2, ::2].T)
    away = some[1:-1] - (some[:-2] + some[2:]) / 2
    there = there[:-2] & there[1:-1] & there[2:]
    steps = [abs(float(np.median(away[k - 1][there[k - 1]]))) for k in slices[1:-1] if there[k - 1].sum() > 50]
    return float(np.median(steps)) if steps else 0.0
