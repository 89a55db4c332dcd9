from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.scans import SMALL_AFFINE, small_brain
from uadtk.core.errors import BackendError, DataError, UsageError
from uadtk.core.preparation import Preparation, preparation_of
from uadtk.core.run import Run
from uadtk.core.volume import Mask, Scan
from uadtk.io.read import read_mask, read_scan
from uadtk.preparation import prepare
from uadtk.preparation.registration import denoise, n4, register

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


def agreement(home: np.ndarray, scan: Scan, brain: Mask) -> float:
    """Correlation of what came home with the scan, which must cover the brain and fit nowhere better."""
    inside = brain.voxels & (home > 0)
    assert inside.sum() > 0.9 * brain.voxels.sum()

    def shifted(shift: int, axis: int) -> float:
        return float(np.corrcoef(np.roll(home, shift, axis)[inside], scan.voxels[inside])[0, 1])

    assert all(shifted(shift, axis) < shifted(0, 0) for shift in (-2, 2) for axis in range(3))
    return shifted(0, 0)


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
    assert agreement(home, scan, brain) > 0.9


def test_the_preset_of_the_thesis() -> None:
    """240 mm of SRI24 in 128 pixels; options after the name override it."""
    found = preparation_of("thesis")
    assert found == Preparation(register="sri24", denoise=True, field_mm=240)
    assert found.pixel_mm == 1.875
    assert preparation_of("thesis,side=256,denoise=no") == replace(found, side="256", denoise=False)
    assert preparation_of("side=256") == Preparation(side="256")
    assert preparation_of("") == Preparation()
    with pytest.raises(UsageError, match="'tesis' is not key=value"):
        preparation_of("tesis")


def test_sri24_has_to_be_fetched_and_be_sri24(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan, brain = Scan(small_brain()[0], SMALL_AFFINE), Mask(small_brain()[1], SMALL_AFFINE)
    monkeypatch.delenv("UADTK_SRI24", raising=False)
    with pytest.raises(BackendError, match=r"Download SRI24 from www\.nitrc\.org/projects/sri24, and set UADTK_SRI24"):
        register(scan, brain, "sri24")
    nib.save(nib.Nifti1Image(scan.voxels, np.diag([1.0, 1, 1, 1])), tmp_path / "other.nii.gz")
    monkeypatch.setenv("UADTK_SRI24", str(tmp_path / "other.nii.gz"))
    with pytest.raises(DataError, match=r"is not SRI24, .* has 44 x 52 x 24 voxels of 1 x 1 x 1 mm"):
        register(scan, brain, "sri24")


@pytest.mark.slow
def test_registration_goes_to_sri24_and_home(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shared_data / "lgg" / "TCGA_DU_5849"
    monkeypatch.setenv("UADTK_SRI24", str(shared_data / "atlas" / "sri24_t1.nii.gz"))
    scan = read_scan(folder / "flair.nii.gz")
    brain = read_mask(folder / "brainmask.nii.gz", like=scan)
    found = prepare(scan, preparation_of("thesis"), Run(), brain)
    assert found.registration.atlas_affine.shape == (4, 4)
    assert found.grid.shape == (240, 240, 155)
    assert found.spacing_mm == pytest.approx((1.0, 1.875, 1.875))
    home = found.to_own_grid(found.image)
    assert agreement(home, scan, brain) > 0.85  # denoised, on pixels of 1.875 mm
