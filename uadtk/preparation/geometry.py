"""Between a scan's own grid and the slices a model reads: reorientation and in-plane resampling, both ways.

Resampling is separable, so one small matrix per axis is the whole operation; its transpose direction is built the same
way and always lands on the scan's own voxels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uadtk.core.volume import Affine, Spacing, Volume

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Reorientation:
    """Axis flips and swaps that bring a volume to the RAS+ order nearest to its own, exactly invertible."""

    forward: NDArray[np.float64]
    backward: NDArray[np.float64]

    @classmethod
    def of(cls, affine: Affine) -> Reorientation:
        from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

        own, ras = io_orientation(affine), axcodes2ornt("RAS")
        return cls(ornt_transform(own, ras), ornt_transform(ras, own))

    def to_ras(self, volume: Volume) -> Volume:
        from nibabel.orientations import apply_orientation, inv_ornt_aff

        affine = volume.affine @ inv_ornt_aff(self.forward, volume.shape)
        return type(volume)(apply_orientation(volume.voxels, self.forward), affine)

    def to_own(self, voxels: NDArray[np.float32]) -> NDArray[np.float32]:
        from nibabel.orientations import apply_orientation

        turned: NDArray[np.float32] = apply_orientation(voxels, self.backward)
        return turned


@dataclass(frozen=True)
class SliceGrid:
    """Square axial slices over a RAS+ volume: rows run from anterior to posterior, columns from left to right.

    ``positions`` are the z indices of the slices; ``rows`` (side, y) and ``columns`` (side, x) resample one slice,
    ``back_rows`` (y, side) and ``back_columns`` (x, side) bring it home.
    """

    shape: tuple[int, int, int]
    positions: NDArray[np.intp]
    rows: Float
    columns: Float
    back_rows: Float
    back_columns: Float

    @classmethod
    def around(cls, brain: NDArray[np.bool_], spacing_mm: Spacing, side: int, pixel_mm: float) -> SliceGrid:
        """Centre the field of view on the bounding box of ``brain`` (x, y, z)."""
        box = [np.flatnonzero(brain.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
        offsets_mm = (np.arange(side) - (side - 1) / 2) * pixel_mm
        x = (box[0][0] + box[0][-1]) / 2 + offsets_mm / spacing_mm[0]
        y = (box[1][0] + box[1][-1]) / 2 - offsets_mm / spacing_mm[1]
        size_x, size_y, _ = brain.shape
        return cls(
            shape=brain.shape,  # type: ignore[arg-type]
            positions=np.arange(box[2][0], box[2][-1] + 1),
            rows=resampling_matrix(y, size_y),
            columns=resampling_matrix(x, size_x),
            back_rows=resampling_matrix((np.arange(size_y) - y[0]) / (y[1] - y[0]), side),
            back_columns=resampling_matrix((np.arange(size_x) - x[0]) / (x[1] - x[0]), side),
        )

    def to_slices(self, voxels: NDArray[np.generic]) -> Float:
        """(x, y, z) -> (slices, side, side) float32."""
        chosen = np.ascontiguousarray(voxels.T[self.positions], dtype=np.float32)
        slices: Float = (self.rows @ chosen @ self.columns.T).astype(np.float32, copy=False)
        return slices

    def to_volume(self, slices: Float) -> Float:
        """(slices, side, side) -> (x, y, z) float32, 0 where no slice is."""
        volume = np.zeros(self.shape[::-1], dtype=np.float32)
        volume[self.positions] = self.back_rows @ slices @ self.back_columns.T
        return volume.T


def resampling_matrix(positions: NDArray[np.floating], size: int) -> Float:
    """Linear interpolation at ``positions`` (input index units) of ``size`` samples; averages where it shrinks.

    The triangle is as wide as the output spacing when that is coarser than the input's, so that nothing aliases.
    Outside the input there are zeros.
    """
    step = abs(float(positions[1] - positions[0])) if len(positions) > 1 else 1.0
    width = max(1.0, step)
    margin = int(np.ceil(width))
    weights = np.maximum(0.0, 1.0 - np.abs(np.arange(-margin, size + margin)[None, :] - positions[:, None]) / width)
    total = weights.sum(axis=1, keepdims=True)
    inside = weights[:, margin : margin + size] / np.where(total > 0, total, 1.0)
    return np.ascontiguousarray(inside).astype(np.float32)
