"""The recipe that turns a scan into slices for a model. Frozen, JSON-able, stored in the checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from uadtk.core.options import as_dict, option


@dataclass(frozen=True)
class Preparation:
    """Orientation to RAS+, then the steps below, then extraction of the axial slices that contain brain.

    Intensity is divided by a percentile of the brain voxels (98 in the thesis) and never rescaled afterwards.
    """

    side: Literal["128", "256"] = option("128", "Pixels along each side of a slice.")
    field_mm: float = option(208.0, "Field of view of a slice in mm, centred on the brain.", ge=100, le=400)
    register: Literal["none", "rigid", "affine"] = option("none", "Register to the ICBM 2009a atlas (SimpleITK).")
    n4: bool = option(False, "N4 bias field correction (SimpleITK).")
    flatten: bool = option(False, "Bias field correction by a robust cubic fit; keeps large lesions bright, fast.")
    denoise: bool = option(False, "Curvature-flow denoising, 5 iterations.")
    percentile: float = option(98.0, "Percentile of brain intensities that is scaled to 1.", ge=50, le=100)

    @property
    def pixels(self) -> int:
        return int(self.side)

    @property
    def pixel_mm(self) -> float:
        return self.field_mm / self.pixels

    def identity(self) -> dict[str, Any]:
        """Plain values that identify the recipe: without ``flatten`` where it is off, as before there was one."""
        return {key: value for key, value in as_dict(self).items() if key != "flatten" or value}
