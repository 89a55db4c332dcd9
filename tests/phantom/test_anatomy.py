from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from uadtk.core.errors import BackendError, DataError
from uadtk.phantom import from_labels, icbm
from uadtk.phantom.anatomy import TISSUES


def test_icbm_fractions_add_up_to_one_in_the_brain_and_none_outside() -> None:
    brain = icbm()
    total = np.sum([brain.fractions[name] for name in TISSUES], axis=0)
    assert np.logical_or(np.abs(total - 1) < 1e-4, total < 1e-6).mean() > 0.999
    assert min(part.min() for part in brain.fractions.values()) >= 0
    assert 1500 < total.sum() / 1000 < 2000  # ml; ICBM's head is larger than most


def test_icbm_tissues_are_where_they_belong() -> None:
    brain = icbm()

    def tissue(*mm: float) -> str:
        x, y, z = np.rint(np.linalg.solve(brain.affine, [*mm, 1])[:3]).astype(int)
        return max(TISSUES, key=lambda name: brain.fractions[name][x, y, z])

    assert tissue(-26, -20, 30) == tissue(26, 20, 25) == "white"
    assert tissue(24, 6, 2) == tissue(-24, 6, 2) == "deep"  # putamen
    assert tissue(-6, 12, 12) == tissue(6, 12, 12) == "ventricle"  # frontal horns
    assert tissue(0, -28, -30) == "brainstem"  # pons
    assert tissue(-35, -65, -38) == "cerebellum"
    assert tissue(3, 50, 5) == "cortex"
    assert tissue(0, -35, -5) == "csf"  # quadrigeminal cistern


def test_reading_icbm_does_not_import_nilearn() -> None:
    code = "import sys; from uadtk.phantom import icbm; icbm(); sys.exit('nilearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_nilearn_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uadtk.io.icbm.find_spec", lambda _: None)
    with pytest.raises(BackendError, match=r'pip install "uadtk\[phantom\]"'):
        icbm.__wrapped__()


def test_label_map_keeps_the_brain_and_drops_the_skull(label_map: Path) -> None:
    brain = from_labels(label_map)
    sums = {name: float(part.sum()) for name, part in brain.fractions.items()}

    def ball(radius: float) -> float:
        return 4 / 3 * np.pi * radius**3

    assert sums["ventricle"] == pytest.approx(ball(9), rel=0.15)
    assert sums["deep"] == pytest.approx(ball(14) - ball(9), rel=0.1)
    assert ball(40) < sum(sums.values()) < ball(42.5)
    assert sums["brainstem"] == sums["cerebellum"] == 0


def test_unknown_numbers_take_the_nearest_tissue(label_map: Path) -> None:
    brain = from_labels(label_map)
    total = np.sum(list(brain.fractions.values()), axis=0)
    assert total[brain.depth_mm > 0].min() > 0.99  # no hole where 499 was
    solid = brain.fractions["white"] + brain.fractions["cortex"]
    assert solid.sum() == pytest.approx(4 / 3 * np.pi * (40**3 - 14**3), rel=0.05)


def test_label_maps_of_other_spacing_come_to_one_millimetre(label_map: Path, tmp_path: Path) -> None:
    image = nibabel.load(label_map)
    coarse = nibabel.Nifti1Image(np.asarray(image.dataobj)[:, :, ::2], image.affine @ np.diag([1, 1, 2, 1]))
    nibabel.save(coarse, tmp_path / "coarse.nii")
    one, two = from_labels(label_map), from_labels(tmp_path / "coarse.nii")
    for name in ("white", "cortex", "deep"):
        assert two.fractions[name].sum() == pytest.approx(one.fractions[name].sum(), rel=0.06)


@pytest.mark.parametrize("kind", ["scan", "skull", "text", "none"])
def test_files_that_are_no_label_maps_are_named(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.nii"
    if kind == "text":
        path.write_text("hello")
    elif kind != "none":
        voxels = np.random.default_rng(0).random((9, 9, 9)) if kind == "scan" else np.full((9, 9, 9), 515)
        nibabel.save(nibabel.Nifti1Image(voxels.astype(np.float32), np.eye(4)), path)
    with pytest.raises(DataError, match=r"x\.nii"):
        from_labels(path)
