"""The demo patient that ships with uadtk is what the phantom code makes, and small."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from uadtk.cli.demo import demo
from uadtk.core.errors import BackendError
from uadtk.io import icbm
from uadtk.phantom import anatomy, make, synthesis
from uadtk.phantom.shipped import FOLDER, LESIONS, SEED, shipped


def test_it_is_small_and_has_scan_brain_lesion_and_facts() -> None:
    patient = shipped()
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1_500_000
    assert patient.scan.same_grid(patient.lesion)
    assert patient.scan.spacing_mm == (1.0, 1.0, 1.0)
    assert not (patient.lesion.voxels & ~patient.brain.voxels).any()
    assert (patient.facts["seed"], patient.facts["lesions"]) == (SEED, LESIONS)
    assert patient.lesion.voxels.sum() / 1000 == pytest.approx(patient.facts["lesion_ml"])


@pytest.mark.slow
@pytest.mark.skipif(find_spec("nilearn") is None, reason='needs nilearn: pip install "uadtk[phantom]"')
def test_it_is_the_phantom_of_its_seed_in_255_steps() -> None:
    patient, made = shipped(), make(SEED, lesions=LESIONS)
    np.testing.assert_array_equal(patient.lesion.voxels, made.lesion.voxels)
    np.testing.assert_array_equal(patient.brain.voxels, made.brain.voxels)
    np.testing.assert_allclose(patient.scan.affine, made.scan.affine)
    step = made.scan.voxels.max() / 255
    assert np.abs(patient.scan.voxels - made.scan.voxels)[made.scan.voxels > step].max() <= 0.501 * step
    assert patient.facts == made.facts


def test_another_patient_needs_nilearn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(icbm, "find_spec", lambda _: None)
    monkeypatch.setattr(synthesis, "icbm", anatomy.icbm.__wrapped__)  # an earlier test may have read it
    for other in ({"seed": 2}, {"lesions": "ms"}):
        with pytest.raises(BackendError, match=r'pip install "uadtk\[phantom\]"'):
            demo(tmp_path / "out", **other)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
