"""Small scans made on the spot: a brain, the same anatomy in another axis order, and a table of patients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform

from uadtk.core.volume import Volume

SMALL_AFFINE = np.array([[-3.0, 0, 0, 66], [0, 3.0, 0, -78], [0, 0, 5.0, -60], [0, 0, 0, 1]])
CODES = [
    a + b + c
    for x, y, z in (("LR", "AP", "SI"), ("AP", "LR", "SI"), ("SI", "LR", "AP"), ("SI", "AP", "LR"))
    for a in x
    for b in y
    for c in z
]


def ball(shape: tuple[int, int, int], radius: float, centre: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    """True inside an ellipsoid with half axes ``radius`` * shape / 2, ``centre`` off the middle (as share of shape)."""
    axes = [(np.arange(n) - (n - 1) / 2) / (n / 2) - 2 * c for n, c in zip(shape, centre, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    return x**2 + y**2 + z**2 < radius**2


def small_brain(seed: int = 0, lesion: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A tiny 'brain' (44 x 52 x 24 voxels of 3 x 3 x 5 mm): image, brain mask, lesion mask."""
    rng = np.random.default_rng(seed)
    shape = (44, 52, 24)
    brain = ball(shape, 0.85)
    image = np.where(ball(shape, 0.5), 700.0, 500.0) + 20 * rng.standard_normal(shape)
    image = np.where(ball(shape, 0.18, (0.05 * rng.standard_normal(), 0, 0)), 150.0, image)
    spot = ball(shape, 0.16, (0.2, 0.1, 0.05)) & brain
    if lesion:
        image = np.where(spot, 1300.0, image)
    return np.where(brain, image, 0).astype(np.float32), brain, spot & lesion


def turned(volume: Volume, codes: str) -> Volume:
    """The same anatomy stored in another axis order."""
    change = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    voxels = apply_orientation(volume.voxels, change)
    return Volume(voxels, volume.affine @ inv_ornt_aff(change, volume.shape))


def patients(folder: Path) -> Path:
    """cohort.tsv: two healthy scans to calibrate on; three patients, a scan with an empty mask and one without mask."""
    lines = ["subject\timage\tlesion_mask\tgroup\tsplit\tcollection"]
    for i, kind in enumerate(["healthy", "healthy", "ms", "ms", "ms", "empty", "healthy", "unmarked"]):
        image, _, lesion = small_brain(i, lesion=kind == "ms")
        nib.save(nib.Nifti1Image(image, SMALL_AFFINE), folder / f"p{i}.nii.gz")
        mask = f"p{i}_lesion.nii.gz" if kind in ("ms", "empty") else ""
        if mask:
            nib.save(nib.Nifti1Image(lesion.astype(np.uint8), SMALL_AFFINE), folder / mask)
        group = "ms" if kind == "unmarked" else kind
        lines.append(f"p{i}\tp{i}.nii.gz\t{mask}\t{group}\t{'validation' if i < 2 else 'test'}\t{kind}")
    (folder / "cohort.tsv").write_text("\n".join(lines) + "\n")
    return folder / "cohort.tsv"


def labelled(folder: Path, kinds: Sequence[str]) -> Path:
    """A folder with cohort.tsv: a patient with a lesion mask for each ``collection split`` of ``kinds``."""
    folder.mkdir()
    lines = ["subject\timage\tlesion_mask\tgroup\tsplit\tcollection"]
    for i, kind in enumerate(kinds):
        collection, split = kind.split()
        image, _, lesion = small_brain(i, lesion=True)
        nib.save(nib.Nifti1Image(image, SMALL_AFFINE), folder / f"s{i}.nii.gz")
        nib.save(nib.Nifti1Image(lesion.astype(np.uint8), SMALL_AFFINE), folder / f"l{i}.nii.gz")
        lines.append(f"s{i}\ts{i}.nii.gz\tl{i}.nii.gz\tpatient\t{split}\t{collection}")
    (folder / "cohort.tsv").write_text("\n".join(lines) + "\n")
    return folder


def brighter(image: Path, by: float, folder: Path) -> Path:
    """A copy that is brighter by this factor: the same anatomy, another scan."""
    stored = nib.load(image)
    path = folder / f"{by:g}_{image.name}"
    nib.save(nib.Nifti1Image(np.asarray(stored.dataobj) * by, stored.affine), path)
    return path
