"""The peers of the benchmarks do the same work, and quick forms hold their floors."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import uadtk
from benchmarks import _shared, plain
from tests.scans import SMALL_AFFINE, small_brain
from uadtk import checkpoint as checkpoints
from uadtk.core.preparation import Preparation
from uadtk.io.read import read_scan
from uadtk.training.resume import state_path

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("codes", ["RAS", "LPS"])
def test_a_plain_script_makes_the_same_mask(tmp_path: Path, codes: str) -> None:
    """Written without uadtk's preparation, cleaners and kernels: a second opinion on all of them."""
    image, _, _ = small_brain(3, lesion=True)
    sign = -1 if codes == "LPS" else 1
    nib.save(nib.Nifti1Image(image, SMALL_AFFINE @ np.diag([sign, sign, 1, 1])), tmp_path / "scan.nii.gz")
    checkpoint = plain.twin()
    checkpoint.save(tmp_path / "twin.safetensors")
    point = checkpoint.point("p98")
    theirs = plain.segment(tmp_path / "scan.nii.gz", tmp_path, checkpoint.build("cpu"), point.threshold, 8)
    ours = uadtk.open(str(tmp_path / "twin.safetensors"), threads=1).segment(
        tmp_path / "scan.nii.gz", point="p98", force=True
    )
    assert ours.mask.voxels.sum() > 100
    assert np.count_nonzero(ours.mask.voxels != theirs) <= 2  # the median of float32 sums may tip a voxel
    stored = read_scan(tmp_path / "scan_mask.nii.gz")
    assert np.array_equal(stored.voxels > 0, theirs)


def test_a_training_is_finished_once_nothing_of_it_is_left_to_do(tmp_path: Path) -> None:
    output, fresh = tmp_path / "m.safetensors", checkpoints.new("histeq", {}, Preparation())
    assert not _shared.finished(output)
    for facts, expected in (({}, True), ({"finished": True}, True), ({"finished": False}, False)):
        replace(fresh, training=facts).save(output)
        assert _shared.finished(output) == expected
    replace(fresh, training={"finished": True}).save(output)
    state_path(output).touch()  # a training with --overwrite that was interrupted
    assert not _shared.finished(output)


@pytest.mark.slow
def test_calibration_and_training_slices_do_not_grow_like_squares() -> None:
    command = [sys.executable, "benchmarks/growth.py", "--quick", "--subjects", "threshold", "slices"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "| threshold |" in done.stdout
