"""From a scan to slices for a model, and back-projection to the scan's own grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk.core.errors import DataError
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.volume import Mask, Scan, Volume
from uadtk.kernels import quantile
from uadtk.preparation.brain import find_brain
from uadtk.preparation.geometry import Reorientation, SliceGrid, bounding_box
from uadtk.preparation.registration import Registration, denoise, n4, register

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Prepared:
    """Slices of one scan.

    ``image`` (n, side, side) float32, 0 outside the brain, brain p98 = 1; ``brain`` bool of the same shape;
    ``spacing_mm`` (z, y, x) of the slice stack;
    ``intensity`` the scan intensity that became 1.
    """

    image: Float
    brain: NDArray[np.bool_]
    spacing_mm: tuple[float, float, float]
    intensity: float
    own_brain: Mask
    brain_source: str
    to_own_grid: Callable[[Float], Float]
    """(n, side, side) -> (x, y, z) on the scan's own grid, exactly its shape."""
    to_slices: Callable[[NDArray[np.bool_]], NDArray[np.bool_]]
    """A bool volume on the scan's own grid -> (n, side, side): any part of a pixel counts."""


def prepare(scan: Scan, recipe: Preparation, run: Run, brain_mask: Mask | None = None) -> Prepared:
    """Prepare a scan as ``recipe`` specifies.

    Raises
    ------
    DataError
        No brain, a brain larger than the field of view, or a brain without contrast.
    """
    with run.stage("brain"):
        own_brain, source = find_brain(scan, brain_mask, run.device)
    with run.stage("prepare"):
        image = n4(scan, own_brain) if recipe.n4 else scan
        image = denoise(image) if recipe.denoise else image
    frame = Registration(scan.affine, _same, _same)
    if recipe.register != "none":
        with run.stage("register"):
            frame = register(image, own_brain, recipe.register)
    turn = Reorientation.of(frame.affine)

    def upright_of(own: NDArray[Any]) -> Volume:
        return turn.to_ras(Volume(frame.there(own), frame.affine))

    with run.stage("prepare"):
        upright = upright_of(image.voxels)
        mask = Mask(upright_of(own_brain.voxels).voxels > 0.5, upright.affine)
        _fits(mask, recipe.field_mm)
        grid = SliceGrid.around(mask.voxels, upright.spacing_mm, recipe.pixels, recipe.pixel_mm)
        brain, box = grid.cut(mask.voxels), grid.cut(upright.voxels)
        intensity = _white_point(box[brain > 0], recipe.percentile)
        inside = grid.to_slices(brain) > 0.5
        slices = grid.to_slices(np.maximum(box, 0) * brain / np.float32(intensity)) * inside
    return Prepared(
        image=slices,
        brain=inside,
        spacing_mm=(upright.spacing_mm[2], recipe.pixel_mm, recipe.pixel_mm),
        intensity=intensity,
        own_brain=own_brain,
        brain_source=source,
        to_own_grid=lambda slices: frame.home(turn.to_own(grid.to_volume(slices))),
        to_slices=lambda own: grid.to_slices(grid.cut(upright_of(own).voxels)) > 0,
    )


def _same(voxels: NDArray[Any]) -> NDArray[Any]:
    return voxels


def _white_point(brain: Float, percentile: float) -> float:
    intensity = float(quantile([brain], percentile / 100.0))
    if not intensity > 0 or float(brain.min()) == float(brain.max()):
        raise DataError(
            f"the brain has no contrast: its {percentile:g}th percentile is {intensity:g}",
            fix="Is this the right image and brain mask?",
        )
    return intensity


def _fits(brain: Mask, field_mm: float) -> None:
    box = bounding_box(brain.voxels)
    for axis, name in ((0, "left-right"), (1, "front-back")):
        extent_mm = (box[axis].stop - box[axis].start) * brain.spacing_mm[axis]
        if extent_mm > field_mm:
            raise DataError(
                f"the brain is {extent_mm:.0f} mm {name}, the model's field of view {field_mm:g} mm",
                fix="Check the spacing in the header and the brain mask.",
            )
