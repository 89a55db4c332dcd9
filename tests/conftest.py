"""What all tests share: where the caches go, where the real scans are, and small scans made on the spot."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parent.parent
os.environ.setdefault("NUMBA_CACHE_DIR", str(ROOT / ".cache" / "numba"))  # before numba is imported
os.environ["UADTK_PLUGINS"] = ""  # what happens to be installed must not change a test

import nibabel as nib
import numpy as np
import pytest
import torch

torch.set_num_threads(1)  # two threads on two busy cores cost ten times as much on tiny networks


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scans; they are never part of this repository."""
    folder = Path(os.environ.get("UADTK_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "cohort.tsv").exists():
        pytest.skip(f"no real scans at {folder} (set UADTK_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def real_files() -> Path:
    """Real files that are not a brain FLAIR, DICOM among them; they are never part of this repository."""
    folder = Path(os.environ.get("UADTK_TEST_FILES", ROOT.parent / "shared" / "real_files"))
    if not (folder / "dicom").is_dir():
        pytest.skip(f"no real files at {folder} (set UADTK_TEST_FILES)")
    return folder


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


SMALL_AFFINE = np.array([[-3.0, 0, 0, 66], [0, 3.0, 0, -78], [0, 0, 5.0, -60], [0, 0, 0, 1]])


@pytest.fixture(scope="session")
def small_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """cohort.tsv with five tiny scans: three to train on, one to validate on, one with a lesion to test on."""
    folder = tmp_path_factory.mktemp("cohort")
    lines = ["subject\timage\tbrain_mask\tlesion_mask\tsplit\tcollection"]
    for i, split in enumerate(["train", "train", "train", "validation", "test"]):
        image, _, lesion = small_brain(i, lesion=split == "test")
        nib.save(nib.Nifti1Image(image, SMALL_AFFINE), folder / f"s{i}.nii.gz")
        mask = ""
        if split == "test":
            mask = f"s{i}_lesion.nii.gz"
            nib.save(nib.Nifti1Image(lesion.astype(np.uint8), SMALL_AFFINE), folder / mask)
        lines.append(f"s{i}\ts{i}.nii.gz\t\t{mask}\t{split}\ttiny")
    (folder / "cohort.tsv").write_text("\n".join(lines) + "\n")
    return folder / "cohort.tsv"
