"""Shared by all tests: cache locations, the folder of real scans, and a small cohort."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parent.parent
os.environ.setdefault("NUMBA_CACHE_DIR", str(ROOT / ".cache" / "numba"))  # before numba is imported
# before numpy and torch are: processes of pytest-xdist share the cores, and threads that wait for each other spin
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["UADTK_PLUGINS"] = ""  # tests must not depend on installed plugins

import nibabel as nib
import numpy as np
import pytest
from hypothesis import settings

from tests.scans import SMALL_AFFINE, small_brain

settings.register_profile("uadtk", deadline=None)  # of a busy machine, a time limit of an example says nothing
settings.load_profile("uadtk")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes seconds even on an idle machine")


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
