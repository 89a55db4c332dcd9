"""The gate on images that nobody looked at while its limits were set: an independent table beside ``gate.md``.

    python -m benchmarks.gate_independent ../shared/data [--people 0 3 6] [-o FILE]

Contrasts are made from whole-head label maps of real people, as SynthSeg does: a mean and a spread for each tissue,
partial volume, a bias field and noise, all drawn anew for each image. The fluid, grey and white matter of each contrast
are in order as in the literature, not measured on any of our scans. Real files are those that packages carry.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import nibabel
import nilearn
import numpy as np
from scipy import ndimage

from benchmarks.gate import NOT_GREEN, PASS, STOP, Image, table
from uadtk.checkpoint import open_checkpoint
from uadtk.core.volume import Mask, Scan
from uadtk.io.read import read_scan

FLUID, GREY, WHITE, BONE = range(4)  # places in the means below; the last is of all other tissue
LABELS = {  # FreeSurfer's numbers, and SynthSeg's for what is outside the brain
    FLUID: (4, 5, 14, 15, 24, 43, 44),
    GREY: (3, 8, 10, 11, 12, 13, 17, 18, 26, 28, 42, 47, 49, 50, 51, 52, 53, 54, 58, 60, 136, 137, 163, 164),
    WHITE: (2, 7, 16, 25, 30, 41, 46, 57, 62, 72, 85),
    BONE: (511, 515),
}
OUTSIDE = 500  # labels from here on are not brain
# Means of fluid, grey and white matter, bone and soft tissue, and the lights that are right.
CONTRASTS = {
    "FLAIR": ((0.2, 1.0, 0.85, 0.1, 0.6), PASS),
    "FLAIR, fat bright": ((0.25, 1.0, 0.85, 0.15, 1.8), PASS),
    "FLAIR, fluid hardly suppressed": ((0.5, 1.0, 0.88, 0.1, 0.6), PASS),
    "T1": ((0.25, 0.65, 1.0, 0.1, 0.9), STOP),
    "T1, inversion prepared": ((0.1, 0.45, 1.0, 0.1, 0.8), STOP),
    "T2": ((1.6, 0.9, 0.65, 0.05, 0.5), STOP),
    "PD": ((1.2, 1.0, 0.8, 0.05, 0.7), NOT_GREEN),
    "T2*-weighted EPI": ((1.3, 1.0, 0.85, 0.0, 0.1), NOT_GREEN),
    "CT, Hounsfield": ((8, 37, 29, 900, 40), STOP),
    "PET (glucose)": ((0.3, 1.0, 0.3, 0.1, 0.15), NOT_GREEN),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--people", type=int, nargs="+", default=[1, 4, 7, 10], help="Which of the 20 label maps.")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    found = [*packaged(), *synthetic(arguments.data, arguments.people)]
    text = table(found, open_checkpoint("scalespace").statistics)
    print(text)
    if arguments.output:
        arguments.output.write_text(text)


def synthetic(data: Path, people: Sequence[int]) -> Iterator[tuple[tuple[str, ...], Image]]:
    maps = sorted((data / "labels").glob("*.nii.gz"))
    for place in people:
        for number, (name, (means, allowed)) in enumerate(CONTRASTS.items()):
            thick_mm = (1, 3, 5)[(place + number) % 3]
            seed = 1000 * place + number
            load = lambda path=maps[place], n=name, m=means, t=thick_mm, s=seed: made(path, n, m, t, s)  # noqa: E731
            yield allowed, Image(f"label maps, {name}", f"{maps[place].name}, {thick_mm} mm", load)


def made(path: Path, name: str, means: tuple[float, ...], thick_mm: int, seed: int) -> tuple[Scan, Mask]:
    """An image of the whole head, and the mask of its brain."""
    rng = np.random.default_rng(seed)
    labels = read_scan(path)
    kinds = labels.voxels.astype(np.int16)
    spread = 4.0 if name.startswith("CT") else 0.05
    air = -1000.0 if name.startswith("CT") else 0.0
    values = np.full(1 + int(kinds.max()), means[4], np.float32)
    for kind, members in LABELS.items():
        values[[one for one in members if one < len(values)]] = means[kind]
    values *= rng.normal(1, 0.05, values.shape).astype(np.float32)  # each structure a little of its own
    values[0] = air
    image = values[kinds]
    brain = (kinds > 0) & (kinds < OUTSIDE)
    wide = 3.0 if name.startswith("PET") else 0.6
    image = ndimage.gaussian_filter(image, (wide, wide, max(wide, 0.4 * thick_mm)))
    if air == 0:
        drift = ndimage.zoom(rng.normal(0, 0.1, (4, 4, 4)), np.array(image.shape) / 4, order=1)
        image = np.abs(image * np.exp(drift) + rng.normal(0, spread, image.shape))
    else:
        image = image + rng.normal(0, spread, image.shape)
    cut = axial(labels, thick_mm)
    affine = labels.affine.copy()
    affine[:, int(np.argmax([s.step or 1 for s in cut]))] *= thick_mm
    return Scan(image[cut].astype(np.float32), affine), Mask(brain[cut], affine)


def axial(labels: Scan, step: int) -> tuple[slice, ...]:
    """Every ``step``-th axial slice."""
    axis = int(np.abs(labels.affine[2, :3]).argmax())
    return tuple(slice(None, None, step if one == axis else None) for one in range(3))


def packaged() -> Iterator[tuple[tuple[str, ...], Image]]:
    """Images that nibabel and nilearn carry: the first are cut to a few voxels, the second are tissue maps."""
    for folder, pattern in (
        (Path(nibabel.__file__).parent / "tests/data", "*anat*.nii"),
        (Path(nibabel.__file__).parent / "tests/data", "functional.nii"),
        (Path(nibabel.__file__).parent / "tests/data", "example*.nii.gz"),
        (Path(nilearn.__file__).parent / "datasets/data", "mni_*.nii.gz"),
    ):
        for path in sorted(folder.glob(pattern)):
            load = lambda path=path: (read_scan(path), None)  # noqa: E731
            yield NOT_GREEN, Image("files of nibabel and nilearn", path.name, load)


if __name__ == "__main__":
    main()
