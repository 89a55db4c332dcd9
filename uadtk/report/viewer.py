"""The data of the interactive viewer: scan, score and mask on one grid, and counts for every position of the slider.

The score is stored as *levels*: a voxel's level is the number of the slider's thresholds below its score. The voxels
drawn at a position are therefore exactly those that the threshold marks, at one byte per voxel. Counts are of the whole
scan at full resolution, from :func:`uadtk.kernels.component_sweep`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk.core.finding import Segmentation
from uadtk.core.text import shown
from uadtk.core.volume import Volume
from uadtk.io.deflate import packed
from uadtk.io.write import nifti_bytes
from uadtk.kernels import component_sweep
from uadtk.kernels._box import box_above
from uadtk.preparation.geometry import parts
from uadtk.report.axial_views import Planes
from uadtk.report.listing import Listed
from uadtk.report.mosaic import inferno

POSITIONS = 200  # of the slider, at least; levels must fit into a byte
LOWEST, HIGHEST = 0.5, 10.0  # ends of the slider, as multiples of the operating point
MOST_VOXELS = 9_000_000  # shown; of a larger volume every second, third, ... voxel is
MOST_BYTES = 2_000_000  # of the scan in the page, as base64
MOST_TOGETHER = 2_100_000  # of scan and score: niivue and the pictures take up to 2.9 of 5 MB
SHADES = (256, 128, 64)  # of the scan; the first that fits


@dataclass(frozen=True)
class Viewer:
    """``volumes`` and ``code`` are gzip as base64; ``settings`` JSON that is safe inside a script element."""

    settings: str
    volumes: dict[str, str]
    code: str
    step: int  # every voxel is shown (1), every second, ...
    script: str

    @property
    def script_digest(self) -> str:
        """As a content security policy names it."""
        return base64.b64encode(hashlib.sha256(self.script.encode()).digest()).decode()


def viewer(segmentation: Segmentation, planes: Planes, listed: Sequence[Listed], name: str) -> Viewer:
    point, score = segmentation.point, segmentation.scoring.score
    thresholds, start = slider(point.threshold, float(score.voxels.max()), planes.heat)
    above = score.zyx[box_above(score.zyx, thresholds[0])]
    sweep = component_sweep(above, None, segmentation.min_voxels, thresholds=thresholds)
    step, volumes = _volumes(planes, thresholds)
    settings = {
        "name": name,
        "point": shown(point.name),
        "thresholds": [float(str(t)) for t in thresholds],  # the shortest that is this float32
        "start": start,
        "findings": sweep.components.tolist(),
        "voxels": sweep.voxels.tolist(),
        "voxel_ml": score.voxel_ml,
        "colours": inferno(),
        "highest_mm": (planes.affine @ (*planes.highest(), 1.0))[:3].tolist(),
        "listed": [asdict(one.finding) | {"rank": one.rank, "place": one.place} for one in listed],
        "checkpoint": segmentation.provenance.get("checkpoint", {}).get("digest", ""),
        "sha256": segmentation.provenance.get("input", {}).get("sha256", ""),
    }
    return Viewer(_json(settings), volumes, _niivue(), step, _text("viewer.js"))


def slider(threshold: float, highest: float, heat: float) -> tuple[NDArray[np.float32], int]:
    """Evenly spaced thresholds, rising, and the position of the operating point, which is one of them exactly."""
    top = max(heat, highest)
    if threshold > 0:
        top = min(max(top, 1.5 * threshold), HIGHEST * threshold)
    low = LOWEST * threshold
    step = (top - low) / POSITIONS
    below = round((threshold - low) / step)
    positions = np.float64(threshold) + step * (np.arange(POSITIONS + 1) - below)
    exact = positions.astype(np.float32)
    exact[below] = np.float32(threshold)
    return np.unique(exact), int(np.searchsorted(np.unique(exact), np.float32(threshold)))


def _volumes(planes: Planes, thresholds: NDArray[np.float32]) -> tuple[int, dict[str, str]]:
    """Compressed NIfTI files, cut to the brain; the scan as finely as there is room for."""
    from uadtk.kernels._numba.shades import counted, shaded

    box = tuple(slice(low, high) for low, high in zip(planes.low, planes.high, strict=True))
    scan, score, found = (volume[box] for volume in (planes.scan, planes.score, planes.components))
    low, high = planes.grey
    first = next(n for n in range(1, 99) if scan.size <= MOST_VOXELS * n**3)
    values = score.T  # the order of a file: faster
    levels = np.zeros(values.shape, np.uint8)
    for part in parts(values):
        some = values[part] > thresholds[0]
        levels[part][some] = np.searchsorted(thresholds, values[part][some], side="left")
    step, shades, bright = next(
        (step, shades, bright)
        for step in range(first, 99)
        for bright in [shaded(scan.T[::step, ::step, ::step], low, high).T]
        for counts in [counted(bright.T)]
        for room in [min(MOST_BYTES, MOST_TOGETHER - _levels_bytes(_largest(levels, step)))]
        for shades in SHADES
        if _coded_bytes(counts, shades) <= room or step == 98
    )
    affine = planes.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ (np.array(planes.low) + (step - 1) / 2)
    affine[:3, :3] *= step
    volumes = {
        "scan": _coarse(bright, shades),
        "score": _largest(levels.T, step),
        "mask": _largest((found > 0).view(np.uint8), step),
    }
    return step, {name: _packed(voxels, affine) for name, voxels in volumes.items()}


def _coarse(bright: NDArray[np.uint8], shades: int) -> NDArray[np.uint8]:
    """The middle of the shade that each value falls into; black stays black."""
    width = 256 // shades
    return bright if width == 1 else np.where(bright < width, 0, bright // width * width + width // 2).astype(np.uint8)


def _coded_bytes(counts: NDArray[np.intp], shades: int) -> float:
    """About how much voxels take in the page, from how many have each value: entropy of the shades, as base64."""
    size, merged = counts.sum(), counts.reshape(shades, -1).sum(axis=1)
    share = merged[merged > 0] / max(size, 1)
    return float(-(share * np.log2(share)).sum() * size / 6)


def _levels_bytes(levels: NDArray[np.uint8]) -> float:
    """The same of levels, where runs of 0 cost little."""
    from uadtk.kernels._numba.shades import counted

    counts = counted(levels.T)
    counts[0] = 0
    return _coded_bytes(counts, 256)


def _largest(voxels: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """The highest value of every block of ``step`` voxels along each axis."""
    for axis, size in enumerate(voxels.shape if step > 1 else ()):
        voxels = np.maximum.reduceat(voxels, np.arange(0, size, step), axis)
    return voxels


def _packed(voxels: NDArray[np.uint8], affine: NDArray[np.float64]) -> str:
    return base64.b64encode(b"".join(packed([nifti_bytes(Volume(np.asfortranarray(voxels), affine))]))).decode()


def _json(value: Any) -> str:
    """Without anything that could end the script element."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c").replace("&", "\\u0026")


def _text(name: str) -> str:
    return (files("uadtk.report") / name).read_text(encoding="utf-8")


@lru_cache
def _niivue() -> str:
    return base64.b64encode((files("uadtk.report") / "niivue" / "niivue.umd.js.gz").read_bytes()).decode()
