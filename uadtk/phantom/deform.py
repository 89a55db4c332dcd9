"""Individual heads from one anatomy: the anatomy coordinates of each voxel of the phantom."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from uadtk.phantom.anatomy import Anatomy
from uadtk.phantom.fields import Field, smooth_field

OUTSIDE_MM = 8.0  # empty space around the brain


def coordinates(
    rng: np.random.Generator, anatomy: Anatomy, spacing: tuple[float, float, float], slices: int, strength: float
) -> tuple[Field, NDArray[np.float64]]:
    """Anatomy voxel coordinates (3, x, y, z) of every voxel of a new grid, and that grid's affine.

    The brain gets an adult's volume (1.45 l, standard deviation 8 %) and individual proportions (3 %); the head is
    tilted by up to 8 degrees; a smooth displacement (35 mm and 15 mm features, 2.2 and 0.9 mm standard deviation)
    makes the hemispheres differ. ``strength`` scales all of these; 0 leaves the anatomy unchanged. The length of the
    third axis is a multiple of ``slices``.
    """
    own_volume = float((anatomy.depth_mm > 0).sum())
    volume = 1.45e6 * np.exp(np.clip(rng.normal(0, 0.08), -0.16, 0.16))
    size = np.exp(strength * (np.log(volume / own_volume) / 3 + np.clip(rng.normal(0, 0.03, 3), -0.06, 0.06)))
    tilt = _rotation(strength * np.radians(np.clip(rng.normal(0, 3.0, 3), -8, 8)))
    phase = rng.random(3)
    extent = np.abs(tilt) @ (np.array(anatomy.depth_mm.shape) * size) + 2 * OUTSIDE_MM
    x, y, z = (int(n) for n in np.ceil(extent / spacing))
    z += -z % slices
    centre = anatomy.affine[:3, :3] @ ((np.array(anatomy.depth_mm.shape) - 1) / 2) + anatomy.affine[:3, 3]
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = centre - spacing * ((np.array([x, y, z]) - 1) / 2 + phase - 0.5)
    # output voxel -> mm -> untilted, unscaled mm -> anatomy voxel
    shape_back = np.diag(1 / size) @ tilt.T
    to_voxel = np.linalg.inv(anatomy.affine)
    linear = to_voxel[:3, :3] @ shape_back @ affine[:3, :3]
    offset = to_voxel[:3, :3] @ (shape_back @ (affine[:3, 3] - centre) + centre) + to_voxel[:3, 3]
    grid = np.ogrid[:x, :y, :z]
    out = np.empty((3, x, y, z), np.float32)
    for axis in range(3):
        steps = [np.float32(linear[axis, i]) * grid[i].astype(np.float32) for i in range(3)]
        out[axis] = (steps[0] + np.float32(offset[axis])) + steps[1] + steps[2]
        for cell_mm, amount_mm in ((35.0, 2.2), (15.0, 0.9)):
            cell = (cell_mm / spacing[0], cell_mm / spacing[1], cell_mm / spacing[2])
            out[axis] += np.float32(strength * amount_mm) * smooth_field(rng, (x, y, z), cell)
    return out, affine


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)
