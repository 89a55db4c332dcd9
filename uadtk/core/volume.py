"""Volumes: voxels and the affine that places them, together in one frozen object.

Axis order is nibabel's ``(x, y, z)``; ``affine`` maps voxel indices to RAS+ millimetres. Spacing is derived, so that
data and spacing always agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from uadtk.core.errors import DataError

Affine = NDArray[np.float64]
Spacing = tuple[float, float, float]

Grid = Literal["native", "model"]
"""``native``: the scan's own. ``model``: the slices that the network sees, as in the comparative study."""

MIN_SPACING_MM, MAX_SPACING_MM = 0.05, 30.0
SAME_VOXEL = 0.1  # of a voxel: grids that differ by less are the same


@dataclass(frozen=True, eq=False)
class Header:
    """The spatial header of a NIfTI file, so that outputs make the same claims as their input.

    ``sform_code`` and ``qform_code``: 0 unknown, 1 scanner, 2 aligned, 3 Talairach, 4 MNI152. ``qform``: affine of the
    qform where it differs from the volume's. ``trust``: the form that the user
    chose; masks of a scan are read in the same way.
    """

    sform_code: int = 1
    qform_code: int = 1
    qform: Affine | None = None
    trust: str = ""


@dataclass(frozen=True, eq=False)
class Volume:
    """``voxels`` (x, y, z) with the ``affine`` (4, 4) to RAS+ mm.

    A reader may add ``notes``, lines for people about what it had to decide, and ``facts``, what the file says of how
    the image was made (plain values: ``Modality``, ``EchoTime``). ``origin``: of DICOM, the images it was read from
    (``uadtk.io.readers.dicom_origin.Origin``). Volumes computed from others have none of these.

    Raises
    ------
    DataError
        Not three-dimensional, an empty axis, or spacing that cannot be a brain's (zero, not finite, absurd).
    """

    voxels: NDArray[Any]
    affine: Affine
    header: Header = Header()
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    origin: Any = field(default=None, repr=False)  # names the patient

    def __post_init__(self) -> None:
        if self.voxels.ndim != 3 or 0 in self.voxels.shape:
            raise DataError(f"needs three axes with voxels in them, has shape {self.voxels.shape}")
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4):
            raise DataError(f"the affine has shape {affine.shape}", fix="It maps voxel indices to mm and is (4, 4).")
        if not np.isfinite(affine).all():
            raise DataError("the affine has values that are not finite", fix="Repair the header (sform/qform).")
        affine.flags.writeable = False
        object.__setattr__(self, "affine", affine)
        spacing = self.spacing_mm
        if min(spacing) < MIN_SPACING_MM or max(spacing) > MAX_SPACING_MM or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise DataError(
                f"spacing of {' x '.join(f'{s:g}' for s in spacing)} mm is impossible for a brain scan",
                fix=f"Repair the header: between {MIN_SPACING_MM:g} and {MAX_SPACING_MM:g} mm per voxel.",
            )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """The voxels, for ``np.asarray(volume)``."""
        return np.array(self.voxels, dtype=dtype, copy=copy) if copy else np.asarray(self.voxels, dtype=dtype)

    @classmethod
    def from_zyx(cls, values: NDArray[Any], affine: Affine) -> Self:
        """The volume of an array (z, y, x), such as a kernel returns; the ``affine`` still maps (x, y, z)."""
        return cls(values.T, affine)

    @property
    def zyx(self) -> NDArray[Any]:
        """``voxels`` as a view (z, y, x), the order kernels take: contiguous for volumes read from files."""
        return self.voxels.T

    @property
    def shape(self) -> tuple[int, int, int]:
        x, y, z = self.voxels.shape
        return x, y, z

    @cached_property
    def spacing_mm(self) -> Spacing:
        x, y, z = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0)).tolist()
        return x, y, z

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def off_by_mm(self, other: Volume) -> float:
        """The distance between corresponding corners of two grids, at most; infinite if the shapes differ."""
        if self.shape != other.shape:
            return math.inf
        corners = np.array([[x, y, z, 1.0] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
        corners[:, :3] *= np.array(self.shape) - 1
        return float(np.linalg.norm(corners @ (self.affine - other.affine).T, axis=1).max())

    def same_grid(self, other: Volume) -> bool:
        """Same shape, and no corner further off than a tenth of a voxel."""
        return self.off_by_mm(other) <= SAME_VOXEL * min(self.spacing_mm)


class Scan(Volume):
    """An image: float32, finite; interpolated linearly."""


class ScoreMap(Volume):
    """Abnormality per voxel: float32, finite, >= 0, higher = more abnormal; interpolated linearly."""


class Mask(Volume):
    """bool; never interpolated between values (nearest neighbour)."""


def moved(affine: Affine, box: tuple[slice, ...]) -> Affine:
    """The affine of the part ``box`` of a volume."""
    found = affine.copy()
    found[:3, 3] += affine[:3, :3] @ [side.start for side in box]
    return found
