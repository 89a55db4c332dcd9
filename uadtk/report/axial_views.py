"""Axial planes of a segmentation, laid out as a radiologist expects them.

Radiological convention: the patient's left is on the right of the image, anterior is up. A scan may be stored in any
orientation; it is accessed through views in the closest RAS+ orientation, so only the planes shown are read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk.core.finding import Finding, Scoring, Segmentation
from uadtk.core.volume import Affine, Volume
from uadtk.preparation.geometry import Reorientation

Array = NDArray[Any]
MARGIN_MM = 6.0


def canonical(volume: Volume) -> tuple[Array, Affine]:
    """A view of the voxels with x to the right, y to anterior and z to superior, and its affine."""
    upright = Reorientation.of(volume.affine).to_ras(volume)
    return upright.voxels, upright.affine


@dataclass(frozen=True)
class Planes:
    """Scan, score and components as axial planes cropped to the brain.

    ``low`` and ``high`` bound the voxels (x, y, z) of the brain, in x and y with a margin; ``grey`` is the intensity
    window of scan and reconstruction, ``heat`` the score with the brightest colour.
    """

    scan: Array
    score: Array
    components: Array
    brain: NDArray[np.bool_]
    reconstruction: Array | None
    affine: Affine
    low: tuple[int, int, int]
    high: tuple[int, int, int]
    grey: tuple[float, float]
    heat: float

    @classmethod
    def of(cls, segmentation: Segmentation) -> Planes:
        planes = cls.of_scoring(segmentation.scoring)
        heat = max(planes.heat, 1.5 * segmentation.point.threshold)
        return replace(planes, components=canonical(segmentation.components)[0], heat=heat)

    @classmethod
    def of_scoring(cls, scoring: Scoring) -> Planes:
        """Without an operating point there are no components."""
        scan, affine = canonical(scoring.scan)
        score, brain = canonical(scoring.score)[0], canonical(scoring.brain)[0]
        reconstruction = scoring.maps.get("reconstruction")
        spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
        low, high = _bounds(brain, spacing)
        shown = np.unique(np.linspace(low[2], high[2] - 1, 12).round().astype(int))
        inside = [brain.T[k] for k in shown]  # in the order of a file: faster
        intensities = np.concatenate([scan.T[k][b] for k, b in zip(shown, inside, strict=True)])
        scores = np.concatenate([score.T[k][b] for k, b in zip(shown, inside, strict=True)])
        return cls(
            scan,
            score,
            np.broadcast_to(np.int32(0), scan.shape),
            brain,
            None if reconstruction is None else canonical(reconstruction)[0],
            affine,
            low,
            high,
            _grey(intensities),
            # Scaled to the few highest scores, everything else would be dark.
            max(float(np.quantile(scores, 0.999)) if scores.size else 0.0, 1e-12),
        )

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height of a plane."""
        spacing = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        width, height = (np.subtract(self.high, self.low) * spacing)[:2].tolist()
        return width, height

    def size_px(self, longest: int) -> tuple[int, int]:
        """Width and height of an image in square pixels."""
        width, height = self.size_mm
        scale = longest / max(width, height)
        return max(1, round(width * scale)), max(1, round(height * scale))

    def plane(self, volume: Array, k: int) -> Array:
        """Rows from anterior to posterior, columns from the patient's right to left."""
        return volume[self.low[0] : self.high[0], self.low[1] : self.high[1], k].T[::-1, ::-1]

    def around(self, x: float, y: float, edge_mm: float) -> Planes:
        """Cropped to a square around a voxel, shifted or smaller where the scan ends."""
        low, high = list(self.low), list(self.high)
        for axis, (at, spacing) in enumerate(zip((x, y), np.sqrt((self.affine[:3, :2] ** 2).sum(axis=0)), strict=True)):
            count = min(max(1, round(edge_mm / spacing)), self.scan.shape[axis])
            low[axis] = int(np.clip(round(at) - count // 2, 0, self.scan.shape[axis] - count))
            high[axis] = low[axis] + count
        return replace(self, low=(low[0], low[1], low[2]), high=(high[0], high[1], high[2]))

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Position of a voxel's centre in the image, as fractions of width and height from the top left."""
        left = (self.high[0] - 0.5 - x) / (self.high[0] - self.low[0])
        top = (self.high[1] - 0.5 - y) / (self.high[1] - self.low[1])
        return left, top

    def height_mm(self, k: int, x: float | None = None, y: float | None = None) -> float:
        """RAS+ z of voxel (x, y, k), or of the middle of plane ``k``: an oblique plane has no single height."""
        middle = (np.add(self.low, self.high) - 1) / 2
        return float(self.affine[2] @ (middle[0] if x is None else x, middle[1] if y is None else y, k, 1.0))

    def spread(self, count: int) -> list[int]:
        """At most ``count`` planes, evenly spaced through the brain from inferior to superior."""
        low, high = self.low[2], self.high[2]
        count = min(count, high - low)
        return [low + int((i + 0.5) * (high - low) / count) for i in range(count)]

    def finding(self, finding: Finding) -> tuple[float, float, int]:
        """Voxel x and y of the centroid, and the nearest plane that intersects the finding (rings may miss theirs)."""
        x, y, z = (np.linalg.inv(self.affine) @ (*finding.centroid_mm, 1.0))[:3].tolist()
        nearest = sorted(range(self.components.shape[2]), key=lambda k: abs(k - z))
        met = (k for k in nearest if (self.components[:, :, k] == finding.label).any())
        return x, y, next(met, nearest[0])

    def peak(self, finding: Finding) -> tuple[int, int, int]:
        """Voxel of the highest score of a finding."""
        x, y, z = np.round(np.linalg.inv(self.affine) @ (*finding.peak_mm, 1.0))[:3].astype(int).tolist()
        return x, y, z

    def highest(self) -> tuple[int, int, int]:
        """Voxel of the highest score in the brain."""

        def inside(k: int) -> Array:
            return np.where(self.brain[:, :, k], self.score[:, :, k], -1)

        highest, k = -np.inf, 0
        tops = self.score.T.max(axis=(1, 2))  # bounds of what is inside
        for plane in np.argsort(-tops, kind="stable").tolist():
            if tops[plane] < highest:
                break
            top = float(inside(plane).max())
            highest, k = max((highest, k), (top, plane), key=lambda found: (found[0], -found[1]))
        x, y = np.unravel_index(int(inside(k).argmax()), self.brain.shape[:2])
        return int(x), int(y), k


def _bounds(brain: NDArray[np.bool_], spacing: Array) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """First brain voxel and one past the last, per axis; the whole volume if there are none."""
    flat = np.asarray(brain.any(axis=2))
    along = [np.asarray(line) for line in (flat.any(axis=1), flat.any(axis=0), brain.any(axis=(0, 1)))]
    margin = np.ceil([MARGIN_MM / spacing[0], MARGIN_MM / spacing[1], 0]).astype(int).tolist()
    low, high = [], []
    for axis, (line, more) in enumerate(zip(along, margin, strict=True)):
        where = np.flatnonzero(line) if line.any() else np.array([0, brain.shape[axis] - 1])
        low.append(max(0, int(where[0]) - more))
        high.append(min(brain.shape[axis], int(where[-1]) + 1 + more))
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])


def _grey(intensities: Array) -> tuple[float, float]:
    if intensities.size == 0:
        return 0.0, 1.0
    low, high = np.quantile(intensities, (0.005, 0.998)).tolist()
    return low, high if high > low else low + max(abs(low), 1e-30)
