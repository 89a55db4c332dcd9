"""The recipe that turns a scan into slices for a model. Frozen, JSON-able, stored in the checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from uadtk.core import options as opts
from uadtk.core.options import as_dict, option
from uadtk.core.spec import Spec

# Names for several options at once. ``thesis``: 240 mm of SRI24 in 128 pixels, denoised (Baur et al. 2021); skulls are
# stripped as always.
PRESETS = {"thesis": "register=sri24,denoise=yes,field_mm=240"}


@dataclass(frozen=True)
class Preparation:
    """Orientation to RAS+, then the steps below, then extraction of the axial slices that contain brain.

    Intensity is divided by a percentile of the brain voxels (98 in the thesis) and never rescaled afterwards.
    """

    side: Literal["128", "256"] = option("128", "Pixels along each side of a slice.")
    field_mm: float = option(208.0, "Field of view of a slice in mm, centred on the brain.", ge=100, le=400)
    register: Literal["none", "rigid", "affine", "sri24"] = option(
        "none", "Register to the ICBM 2009a atlas, or (affine) to SRI24 (SimpleITK)."
    )
    n4: bool = option(False, "N4 bias field correction (SimpleITK).")
    flatten: bool = option(False, "Bias field correction by a robust cubic fit; keeps large lesions bright, fast.")
    denoise: bool = option(False, "Curvature-flow denoising, 5 iterations (the study's code: 3).")
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


def preparation_of(text: str) -> Preparation:
    """From ``side=256,denoise=yes``; a name of ``PRESETS`` may stand first, and what follows overrides it.

    Raises
    ------
    UsageError
        No such preset or option, or a value that is not valid.
    """
    name, _, rest = text.partition(",")
    if name.strip() in PRESETS:
        preset = Spec.parse(f"prepare:{PRESETS[name.strip()]}")
        return opts.build(Preparation, preset.having(**Spec.parse(f"prepare:{rest}").values).values, "--prepare")
    return opts.build(Preparation, Spec.parse(f"prepare:{text}").values, "--prepare")
