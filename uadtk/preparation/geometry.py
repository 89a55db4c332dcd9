"""Between a scan's own grid and the slices a model reads: reorientation and in-plane resampling, both ways.

Resampling is separable: one small matrix per axis. The matrices of the way back are built alike and always yield the
scan's own voxels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from uadtk.core.volume import Affine, Spacing, Volume
from uadtk.kernels._box import bounding_box, fill, zeros

Float = NDArray[np.float32]
T = TypeVar("T", bound=np.generic)
AT_ONCE = 1 << 20  # voxels
OFF_MIDDLE = 0.25  # of a pixel
OFF_BELOW, OFF_ABOVE = 1.1, 1.25  # voxels from pixel to pixel: whole below, none above, where pixels lie at all phases


@dataclass(frozen=True)
class Reorientation:
    """Axis flips and swaps to the RAS+ order closest to a volume's own, exactly invertible."""

    forward: NDArray[np.float64]
    backward: NDArray[np.float64]

    @classmethod
    def of(cls, affine: Affine) -> Reorientation:
        return _reorientation(np.asarray(affine, np.float64).tobytes())

    def to_ras(self, volume: Volume) -> Volume:
        from nibabel.orientations import apply_orientation, inv_ornt_aff

        affine = volume.affine @ inv_ornt_aff(self.forward, volume.shape)
        return type(volume)(apply_orientation(volume.voxels, self.forward), affine)

    def to_own(self, voxels: NDArray[np.float32]) -> NDArray[np.float32]:
        from nibabel.orientations import apply_orientation

        turned: NDArray[np.float32] = apply_orientation(voxels, self.backward)
        return turned


@lru_cache(maxsize=16)  # every stage asks for that of the same scan
def _reorientation(affine: bytes) -> Reorientation:
    from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

    own, ras = io_orientation(np.frombuffer(affine).reshape(4, 4)), axcodes2ornt("RAS")
    return Reorientation(ornt_transform(own, ras), ornt_transform(ras, own))


def stored_axis(affine: Affine, world: int) -> int:
    """The array axis closest to left-right (``world`` 0), posterior-anterior (1) or inferior-superior (2)."""
    return int(Reorientation.of(affine).backward[world, 0])


@dataclass(frozen=True)
class SliceGrid:
    """Square axial slices over a RAS+ volume: rows run from anterior to posterior, columns from left to right.

    Only the bounding box of the brain is read and written: ``z``, ``y`` and ``x`` are its ranges. ``rows`` (side, y)
    and ``columns`` (side, x) resample a slice, ``back_rows`` (y, side) and ``back_columns`` (x, side) resample it back.
    """

    shape: tuple[int, ...]
    z: slice
    y: slice
    x: slice
    rows: Float
    columns: Float
    back_rows: Float
    back_columns: Float

    @classmethod
    def around(cls, brain: NDArray[np.bool_], spacing_mm: Spacing, side: int, pixel_mm: float) -> SliceGrid:
        """Centre the field of view on the bounding box of ``brain`` (x, y, z)."""
        x, y, z = bounding_box(brain)
        size_x, size_y = x.stop - x.start, y.stop - y.start
        at_x = _positions(size_x, side, pixel_mm / spacing_mm[0])
        at_y = _positions(size_y, side, -pixel_mm / spacing_mm[1])
        return cls(
            shape=brain.shape,
            z=z,
            y=y,
            x=x,
            rows=resampling_matrix(at_y, size_y),
            columns=resampling_matrix(at_x, size_x),
            back_rows=resampling_matrix((np.arange(size_y) - at_y[0]) / (at_y[1] - at_y[0]), side),
            back_columns=resampling_matrix((np.arange(size_x) - at_x[0]) / (at_x[1] - at_x[0]), side),
        )

    def cut(self, voxels: NDArray[T]) -> NDArray[T]:
        """(x, y, z) -> the brain's box (z, y, x), a view."""
        return voxels.T[self.z, self.y, self.x]

    def to_slices(self, box: NDArray[np.generic]) -> Float:
        """The brain's box (z, y, x) -> (slices, side, side)."""
        found = np.empty((len(box), len(self.rows), len(self.columns)), np.float32)
        for some in parts(box):
            found[some] = _resampled(box[some], self.rows, self.columns)
        return found

    def to_volume(self, slices: Float) -> Float:
        """(slices, side, side) -> (x, y, z), 0 outside the brain's box."""
        volume: Float = zeros(self.shape[::-1], np.float32)
        box = volume[self.z, self.y, self.x]
        for some in parts(slices):
            fill(box[some], _resampled(slices[some], self.back_rows, self.back_columns))
        return volume.T


def parts(volume: NDArray[Any]) -> Iterator[slice]:
    """Of its planes, some at once: what is made of a large volume in between takes little memory."""
    step = max(1, AT_ONCE * len(volume) // max(1, volume.size))
    return (slice(start, start + step) for start in range(0, len(volume), step))


def _resampled(slices: NDArray[np.generic], rows: Float, columns: Float) -> Float:
    from uadtk.kernels._numba.resampling import resampled

    return resampled(np.asarray(slices, np.float32), rows, columns)


def _positions(size: int, side: int, step: float) -> NDArray[np.floating]:
    """Positions of ``side`` pixels, ``step`` voxels apart, in a box of ``size`` voxels: centred on it.

    Up to a quarter of a pixel off centre where voxels are about as large as pixels, or larger. There all pixels, or
    those of two opposite faces of the brain, may be exactly halfway between inside and outside, and a spacing off by a
    micrometre would move whole faces into the mask or out of it.
    """
    off = OFF_MIDDLE * min(max((OFF_ABOVE - abs(step)) / (OFF_ABOVE - OFF_BELOW), 0.0), 1.0)
    return (size - 1) / 2 + (np.arange(side) - (side - 1) / 2 + off) * step


def resampling_matrix(positions: NDArray[np.floating], size: int) -> Float:
    """Linear interpolation of ``size`` samples at ``positions`` (input index units); averages when downsampling.

    The triangular kernel widens to the output spacing if that is coarser than the input's, to prevent aliasing.
    Positions outside the input give 0.
    """
    step = abs(float(positions[1] - positions[0])) if len(positions) > 1 else 1.0
    width = max(1.0, step)
    margin = int(np.ceil(width))
    weights = np.maximum(0.0, 1.0 - np.abs(np.arange(-margin, size + margin)[None, :] - positions[:, None]) / width)
    total = weights.sum(axis=1, keepdims=True)
    inside = weights[:, margin : margin + size] / np.where(total > 0, total, 1.0)
    return np.ascontiguousarray(inside).astype(np.float32)
