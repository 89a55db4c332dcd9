from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.scans import SMALL_AFFINE, small_brain
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.volume import Mask, Scan
from uadtk.io.read import read_mask, read_scan
from uadtk.preparation import prepare
from uadtk.preparation.registration import denoise, n4

pytest.importorskip("SimpleITK", reason="the preprocess extra is not installed")


def test_n4_takes_a_bias_field_away() -> None:
    _, brain, _ = small_brain()
    ramp = np.linspace(0.6, 1.4, brain.shape[0], dtype=np.float32)[:, None, None]
    flat = Scan(np.where(brain, 100 * ramp, 0).astype(np.float32), SMALL_AFFINE)
    corrected = n4(flat, Mask(brain, SMALL_AFFINE)).voxels[brain]
    before = flat.voxels[brain]
    assert corrected.std() / corrected.mean() < 0.3 * before.std() / before.mean()


def test_denoising_lowers_noise_and_keeps_the_mean() -> None:
    image, brain, _ = small_brain()
    smooth = denoise(Scan(image, SMALL_AFFINE)).voxels
    assert np.diff(smooth, axis=2)[:, :, 8:16].std() < np.diff(image, axis=2)[:, :, 8:16].std()
    assert smooth[brain].mean() == pytest.approx(image[brain].mean(), rel=0.05)


@pytest.mark.slow
def test_registration_goes_to_the_atlas_and_home(shared_data: Path) -> None:
    pytest.importorskip("nilearn", reason="the phantom extra is not installed")
    folder = shared_data / "lgg" / "TCGA_DU_5849"
    scan = read_scan(folder / "flair.nii.gz")
    brain = read_mask(folder / "brainmask.nii.gz", like=scan)
    found = prepare(scan, Preparation(register="affine"), Run(), brain)
    home = found.to_own_grid(found.image)
    assert home.shape == scan.shape
    assert found.spacing_mm[0] == pytest.approx(1.0)
    inside = brain.voxels & (home > 0)
    assert inside.sum() > 0.9 * brain.voxels.sum()
    assert np.corrcoef(home[inside], scan.voxels[inside])[0, 1] > 0.9
