"""From a scan to slices for a model, and back-projection to the scan's own grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk.core.errors import DataError
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.volume import Affine, Mask, Scan, Volume, moved
from uadtk.kernels import quantile
from uadtk.kernels._box import bounding_box
from uadtk.preparation.background import background, dark_end
from uadtk.preparation.bias import flattened
from uadtk.preparation.brain import find_brain
from uadtk.preparation.geometry import Reorientation, SliceGrid, parts
from uadtk.preparation.registration import Registration, denoise, n4, register

Float = NDArray[np.float32]
LARGEST = 4 / 3  # of the field of view: a larger brain is scaled down to it, up to here


@dataclass(frozen=True)
class Prepared:
    """Slices of one scan, and the way back to its own grid. Plain data: it pickles.

    ``image`` (n, side, side) float32, 0 outside the brain, brain p98 = 1; ``brain`` bool of the same shape;
    ``spacing_mm`` (z, y, x) of the slice stack; ``dark`` and ``intensity``: the scan intensity that became 0, and how
    much more became 1.
    """

    image: Float
    brain: NDArray[np.bool_]
    spacing_mm: tuple[float, float, float]
    dark: float
    intensity: float
    own_brain: Mask
    brain_source: str
    registration: Registration | None
    turn: Reorientation
    grid: SliceGrid

    @property
    def decisions(self) -> dict[str, Any]:
        """What was decided about this scan, as plain values."""
        return {"intensity_0": self.dark, "intensity_1": self.dark + self.intensity, "pixel_mm": self.spacing_mm[1]}

    def to_own_grid(self, slices: Float) -> Float:
        """(n, side, side) -> (x, y, z) on the scan's own grid, exactly its shape."""
        upright = self.turn.to_own(self.grid.to_volume(slices))
        return upright if self.registration is None else self.registration.to_scan(upright)

    def to_slices(self, own: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """A label on the scan's own grid -> (n, side, side). A pixel is True if more than half of it is."""
        return self._share(own) > 0.5

    def touched(self, own: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The same, but True if any part of a pixel is: for what must be left out, not for labels (it dilates)."""
        return self._share(own) > 0

    def _share(self, own: NDArray[np.bool_]) -> Float:
        upright = _upright(own, self.own_brain.affine, self.registration, self.turn)
        return self.grid.to_slices(self.grid.cut(upright.voxels))


def prepare(scan: Scan, recipe: Preparation, run: Run, brain_mask: Mask | None = None) -> Prepared:
    """Prepare a scan as ``recipe`` specifies.

    Raises
    ------
    DataError
        No brain, one too large for any head, or one without contrast.
    """
    with run.stage("brain"):
        own_brain, source = find_brain(scan, brain_mask, run.device)
    with run.stage("prepare"):
        level = background(scan)
        dark = dark_end(scan.voxels.T[own_brain.voxels.T], level)  # in the order of a file: faster
        if dark != level:
            run.say("much of the brain is darker than the background: 0 is taken to be its darkest fluid")
        # Only registration, N4 and denoising look beyond the box of the brain.
        around = recipe.n4 or recipe.denoise or recipe.register != "none"
        image, inside = (scan, own_brain) if around else _within(bounding_box(own_brain.voxels), scan, own_brain)
        image = Scan(image.voxels - np.float32(dark), image.affine) if dark else image
        image = n4(image, inside) if recipe.n4 else image
        image = flattened(image, inside) if recipe.flatten else image
        image = denoise(image) if recipe.denoise else image
    registration = None
    if recipe.register != "none":
        with run.stage("register"):
            registration = register(image, own_brain, recipe.register)
    with run.stage("prepare"):
        turn = Reorientation.of(scan.affine if registration is None else registration.atlas_affine)
        upright = _upright(image.voxels, image.affine, registration, turn)
        mask = _upright(own_brain.voxels, scan.affine, registration, turn)
        mask = Mask(mask.voxels if registration is None else mask.voxels > 0.5, upright.affine)
        pixel_mm, spacing_mm = _pixel_mm(mask, recipe, run), upright.spacing_mm
        grid = SliceGrid.around(mask.voxels, spacing_mm, recipe.pixels, pixel_mm)
        brain = grid.cut(mask.voxels)
        box = np.asarray(grid.cut(upright.voxels) if around else upright.voxels.T, np.float32)
        intensity = _white_point(box[brain], recipe.percentile)
        shown = grid.to_slices(brain) > 0.5
        scaled = (np.maximum(box[some], 0) * brain[some] / np.float32(intensity) for some in parts(box))
        slices = np.concatenate([grid.to_slices(some) for some in scaled])
        slices *= shown
    return Prepared(
        image=slices,
        brain=shown,
        spacing_mm=(spacing_mm[2], pixel_mm, pixel_mm),
        dark=dark,
        intensity=intensity,
        own_brain=own_brain,
        brain_source=source,
        registration=registration,
        turn=turn,
        grid=grid,
    )


def _within(box: tuple[slice, ...], scan: Scan, brain: Mask) -> tuple[Scan, Mask]:
    affine = moved(scan.affine, box)
    return Scan(scan.voxels[box], affine), Mask(brain.voxels[box], affine)


def _upright(own: NDArray[Any], affine: Affine, registration: Registration | None, turn: Reorientation) -> Volume:
    """Voxels of the scan's own grid in RAS+ order, on the atlas grid where the scan was registered."""
    if registration is None:
        return turn.to_ras(Volume(own, affine))
    return turn.to_ras(Volume(registration.to_atlas(own), registration.atlas_affine))


def _white_point(brain: Float, percentile: float) -> float:
    intensity = float(quantile([brain], percentile / 100.0))
    if not intensity > 0 or float(brain.min()) == float(brain.max()):
        raise DataError(
            f"the brain has no contrast: its {percentile:g}th percentile is {intensity:g}",
            fix="Is this the right image and brain mask?",
        )
    return intensity


def _pixel_mm(brain: Mask, recipe: Preparation, run: Run) -> float:
    """The recipe's pixel, or a larger one where the brain would not fit into the field of view."""
    box = bounding_box(brain.voxels)
    extents_mm = [(box[axis].stop - box[axis].start) * brain.spacing_mm[axis] for axis in (0, 1)]
    axis = int(np.argmax(extents_mm))
    extent_mm, name = extents_mm[axis], ("left-right", "front-back")[axis]
    if extent_mm <= recipe.field_mm:
        return recipe.pixel_mm
    found = f"the brain is {extent_mm:.0f} mm {name}, the model's field of view {recipe.field_mm:g} mm"
    if extent_mm > LARGEST * recipe.field_mm:
        raise DataError(found, fix="Check the spacing in the header and the brain mask.")
    run.say(f"{found}: the brain is scaled down to fit")
    return recipe.pixel_mm * extent_mm / recipe.field_mm
