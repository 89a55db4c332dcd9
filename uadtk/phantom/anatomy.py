"""Anatomy of the phantoms: the ICBM 2009a average brain, or any FreeSurfer label map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uadtk.core.errors import DataError
from uadtk.core.volume import moved
from uadtk.io.icbm import icbm_map
from uadtk.kernels._box import bounding_box

TISSUES = (
    "white",
    "cortex",
    "deep",
    "brainstem",
    "cerebellum",
    "cerebellum_white",
    "ventricle",
    "csf",
)
MARGIN = 6  # voxels around the brain, so that its surroundings deform with it

# FreeSurfer numbers (FreeSurferColorLUT.txt) by tissue; aparc's cortical parcels and their white matter by range.
FREESURFER: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "white": (2, 41, 25, 57, 77, 78, 79, 85, *range(251, 256), *range(3000, 5003)),
        "cortex": (3, 42, 17, 18, 53, 54, *range(1000, 3000)),
        "deep": (10, 11, 12, 13, 26, 49, 50, 51, 52, 58),
        "brainstem": (16, 28, 60, *range(170, 180)),
        "cerebellum": (8, 47),
        "cerebellum_white": (7, 46),
        "ventricle": (4, 5, 14, 15, 43, 44, 72, 31, 63, 136, 137, 163, 164),
        "csf": (24, 30, 62),
    }
)


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A brain as tissue fractions.

    ``fractions`` maps each of ``TISSUES`` to float32 (x, y, z) in [0, 1]; they sum to 1 inside the brain and to 0
    outside. ``affine`` (4, 4) maps voxels to RAS+ mm; axes run along R, A, S at 1 mm. ``myelin``, if known:
    T1-weighted intensity relative to the tissue's mean, minus 1 (positive values are dark on FLAIR).
    """

    fractions: Mapping[str, NDArray[np.float32]]
    affine: NDArray[np.float64]
    name: str
    myelin: NDArray[np.float32] | None = None

    @cached_property
    def depth_mm(self) -> NDArray[np.float32]:
        """Signed distance to the brain surface, positive inside, clipped at 4 mm."""
        inside = np.asarray(sum(self.fractions.values())) > 0.5
        return np.asarray(_shells(inside) - _shells(~inside))

    @cached_property
    def near_ventricle(self) -> NDArray[np.float32]:
        """1 at the ventricular wall, falling to 0 within about 15 mm: where white matter ages first."""
        halved = self.fractions["ventricle"][::2, ::2, ::2]
        near = sum(np.minimum(1, 3 * ndimage.gaussian_filter(halved, sigma)) for sigma in (1.0, 2.0, 4.0)) / 3
        full = np.repeat(np.repeat(np.repeat(near, 2, 0), 2, 1), 2, 2)
        return full[tuple(map(slice, self.fractions["ventricle"].shape))].astype(np.float32)


def _shells(inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """City-block depth up to 4 voxels: cheap, and only its zero level and slope matter."""
    depth = inside.astype(np.float32)
    for _ in range(3):
        inside = ndimage.binary_erosion(inside, border_value=1)
        depth += inside
    return depth


@lru_cache(maxsize=1)
def icbm() -> Anatomy:
    """The average brain of 152 young adults (Fonov et al. 2009). Raises BackendError as ``icbm_map``."""
    maps = [icbm_map("t1"), icbm_map("gm"), icbm_map("wm")]
    box = _box(maps[0].voxels > 0)
    brain, grey, white = (np.asarray(one.voxels[box] / 255, np.float32) for one in maps)
    affine = moved(maps[0].affine, box)
    return Anatomy(_from_maps(brain > 0, grey, white, affine), affine, "icbm2009a", _myelin(brain, grey, white))


def _myelin(t1: NDArray[np.float32], grey: NDArray[np.float32], white: NDArray[np.float32]) -> NDArray[np.float32]:
    means = [t1[part > 0.9].mean() for part in (grey, white)]
    solid = grey + white
    expected = (means[0] * grey + means[1] * white) / np.maximum(solid, 1e-6)
    deviation = np.clip(t1 / np.maximum(expected, 1e-6) - 1, -0.15, 0.15)
    return np.asarray(np.where(solid > 0.8, deviation, 0), np.float32)


def _from_maps(
    brain: NDArray[np.bool_], grey: NDArray[np.float32], white: NDArray[np.float32], affine: NDArray[np.float64]
) -> dict[str, NDArray[np.float32]]:
    """Split grey and white matter into eight tissues by their position in MNI space.

    The maps are averages of many heads and so blurred; renormalised powers restore the edges of a single head. Fluid
    has the lowest power, because sulci differ between heads and have been averaged away.
    """
    grey, white, fluid = grey**3, white**3, np.clip(1 - grey - white, 0, 1) ** 2
    share = brain / np.maximum(grey + white + fluid, 1e-6)
    grey, white, fluid = (tissue * share for tissue in (grey, white, fluid))
    x, y, z = (affine[i, i] * np.arange(n) + affine[i, 3] for i, n in enumerate(brain.shape))
    x, y, z = np.ix_(np.abs(x).astype(np.float32), y.astype(np.float32), z.astype(np.float32))
    deep = _soft(1 - (x / 33) ** 2 - ((y + 5) / 32) ** 2 - ((z - 4) / 19) ** 2, 0.1)
    below_tentorium = _soft(-20 - z - 0.45 * x + 0.45 * np.clip(-y - 40, 0, 30), 2) * _soft(-16 - y, 2)
    stem = _soft(13 - x, 2) * _soft(y + 41 + 0.25 * (z + 30), 2) * _soft(-12 - y, 2) * _soft(-9 - z, 2)
    ventricle = _soft(34 - x, 1) * _soft(y + 62, 1) * _soft(36 - y, 1) * _soft(z + 12, 1) * _soft(32 - z, 1)
    ventricle *= 1 - _soft(4 - x, 0.5) * np.maximum(
        _soft(y - 22, 0.5), np.maximum(_soft(z - 24, 0.5), _soft(-24 - y, 1))
    )
    fourth = _soft(12 - x, 1) * _soft(y + 50, 1) * _soft(-32 - y, 1) * _soft(z + 48, 1) * _soft(-18 - z, 1)
    cerebellum = below_tentorium * (1 - stem)
    above = (1 - below_tentorium) * (1 - stem)
    parts = {
        "white": white * above,
        "cortex": grey * above * (1 - deep),
        "deep": grey * above * deep,
        "brainstem": (grey + white) * stem,
        "cerebellum": grey * cerebellum,
        "cerebellum_white": white * cerebellum,
        "ventricle": fluid * np.maximum(ventricle, fourth),
        "csf": fluid * (1 - np.maximum(ventricle, fourth)),
    }
    return {name: part.astype(np.float32) for name, part in parts.items()}


def _soft(distance: Any, width: float) -> Any:
    """A smooth step from 0 to 1 at 0 over ``width``, to avoid visible straight cuts."""
    return 1 / (1 + np.exp(np.clip(-distance / width, -30, 30)))


@lru_cache(maxsize=2)
def from_labels(path: Path) -> Anatomy:
    """A label map with FreeSurfer's numbers, whole head or brain only, in any orientation, resampled to 1 mm.

    Skull and scalp are dropped. Voxels inside the brain with a number not in ``FREESURFER`` take the nearest known
    tissue.

    Raises
    ------
    DataError
        Not a label map, or no white matter and cortex in it.
    """
    labels, affine = _read(path)
    if labels.ndim != 3 or not np.issubdtype(labels.dtype, np.integer):
        if labels.ndim != 3 or not np.array_equal(labels, np.rint(labels)):
            raise DataError("not a label map", str(path), "Give a 3-D volume of FreeSurfer's integer labels.")
        labels = labels.astype(np.int32)
    table = np.zeros(max(int(labels.max()), 5002) + 1, np.uint8)
    for code, name in enumerate(TISSUES, 1):
        table[list(FREESURFER[name])] = code
    tissue = table[np.maximum(labels, 0)]
    counts = np.bincount(tissue.ravel(), minlength=9)
    if not (counts[1] and counts[2]):
        raise DataError("has no white matter and cortex", str(path), "Give a label map with FreeSurfer's numbers.")
    scale = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    if np.abs(scale - 1).max() > 0.01:
        tissue = ndimage.zoom(tissue, scale, order=0, grid_mode=True, mode="grid-constant")
    tissue = tissue[_box((tissue > 0) & (tissue < 8))]
    brain = _brain(tissue)
    if (brain & (tissue == 0)).any():
        nearest = ndimage.distance_transform_edt(tissue == 0, return_distances=False, return_indices=True)
        tissue = tissue[tuple(nearest)]
    origin = np.eye(4)
    origin[:3, 3] = -(np.array(tissue.shape) - 1) / 2
    # Label maps have hard, stepped edges: blurring removes the steps, squaring restores edges one voxel wide.
    parts = {
        name: ndimage.gaussian_filter((brain & (tissue == code)).astype(np.float32), 1.0, truncate=3) ** 2
        for code, name in enumerate(TISSUES, 1)
    }
    total = np.maximum(sum(parts.values()), 1e-6)
    return Anatomy({name: np.where(brain, part / total, 0) for name, part in parts.items()}, origin, path.name)


def _brain(tissue: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The brain mask of a skull-stripping tool: tissue, sulci, and 1 mm of the surrounding fluid."""
    tissue_only = np.pad((tissue > 0) & (tissue < 8), 8)
    closed = ndimage.gaussian_filter(tissue_only.astype(np.float32), 4, truncate=2) > 0.45
    hull = ndimage.binary_dilation(tissue_only, iterations=1) | closed
    hull = ndimage.binary_fill_holes(hull)[8:-8, 8:-8, 8:-8]
    kept, _ = ndimage.label(hull)
    return np.asarray(kept == np.bincount(kept.ravel())[1:].argmax() + 1)


def _read(path: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    try:
        image: Any = nibabel.as_closest_canonical(nibabel.load(path))  # type: ignore[no-untyped-call]
        return np.asanyarray(image.dataobj), np.asarray(image.affine)
    except (OSError, EOFError, ValueError, ImageFileError) as error:
        raise DataError(f"cannot be read as a NIfTI volume ({error})", str(path)) from None


def _box(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    x, y, z = (slice(max(side.start - MARGIN, 0), side.stop + MARGIN) for side in bounding_box(mask))
    return x, y, z
