"""``segment --space MNI``: the result in the space of the atlas, beside that on the scan's own grid."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.commands import call
from tests.scans import SMALL_AFFINE
from uadtk.core.volume import Mask, Scan
from uadtk.io.own import is_own
from uadtk.phantom.shipped import SCAN
from uadtk.pipeline import atlas_space
from uadtk.pipeline.compare import result_at
from uadtk.preparation import registration
from uadtk.preparation.registration import Registration

pytest.importorskip("SimpleITK", reason="the preprocess extra is not installed")
pytest.importorskip("nilearn", reason="the phantom extra is not installed")

MNI = "space-MNI152NLin2009aSym"
TURNED = (1.02, -0.1, 0.0, 0.1, 1.0, 0.05, 0.0, -0.05, 0.98, 4.0, -6.0, 2.0)


def as_written(scan: Scan, _brain: Mask, kind: str) -> Registration:
    return Registration(kind, TURNED, (0.0, 0.0, 0.0), scan.shape, scan.affine)


def dice(one: Any, other: Any) -> float:
    return float(2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other)))


def test_labels_return_from_the_atlas_as_they_went(small_cohort: Path) -> None:
    mask = np.asarray(nib.load(small_cohort.parent / "s4.nii.gz").dataobj) > 900
    there = as_written(Scan(mask.astype(np.float32), SMALL_AFFINE), Mask(mask, SMALL_AFFINE), "affine")
    in_atlas = there.to_atlas(mask, nearest=True)
    assert in_atlas.shape == (197, 233, 189)
    assert set(np.unique(in_atlas)) == {0.0, 1.0}
    assert dice(there.to_scan(in_atlas) > 0.5, mask) > 0.98
    assert set(np.unique(there.to_atlas(mask))) > {0.0, 1.0}  # linear


@pytest.mark.slow
def test_files_in_the_space_of_the_atlas(
    histeq: Path, small_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import SimpleITK

    monkeypatch.setattr(atlas_space, "register", as_written)
    anat = tmp_path / "bids" / "sub-1" / "anat"
    anat.mkdir(parents=True)
    shutil.copy(small_cohort.parent / "s4.nii.gz", anat / "sub-1_FLAIR.nii.gz")
    out = tmp_path / "out"
    asked = ["segment", tmp_path / "bids", "--model", histeq, "-o", out]
    assert call(*asked, "--layout", "flat").code == 0
    bare = json.loads((out / "sub-1_findings.json").read_text())
    done = call(*asked, "--space", "MNI")
    assert done.code == 0
    assert "done again: other options" in done.err
    assert "done before" in call(*asked, "--space", "MNI").err
    assert json.loads((out / "sub-1_findings.json").read_text()) == bare  # of the scan's own grid

    mask = nib.load(out / f"sub-1_{MNI}_label-lesion_mask.nii.gz")
    assert mask.shape == (197, 233, 189)
    assert [int(mask.header[key]) for key in ("sform_code", "qform_code")] == [4, 4]
    assert mask.header["intent_name"] == b"lesion"
    transform = SimpleITK.ReadTransform(str(out / "sub-1_from-orig_to-MNI152NLin2009aSym_mode-image_xfm.txt"))
    assert transform.GetParameters() == TURNED
    fixed = SimpleITK.ReadImage(str(out / f"sub-1_{MNI}_FLAIR.nii.gz"))
    own = SimpleITK.ReadImage(str(out / "sub-1_label-lesion_mask.nii.gz"))
    again = SimpleITK.Resample(own, fixed, transform, SimpleITK.sitkNearestNeighbor)
    assert dice(SimpleITK.GetArrayFromImage(again).T > 0, np.asarray(mask.dataobj) > 0) > 0.98

    assert result_at(out / f"sub-1_{MNI}_label-lesion_mask.nii.gz").name == "sub-1"
    assert all(map(is_own, out.glob("*.nii.gz")))
    derivative = out / "derivatives" / "uadtk"
    assert {path.name for path in derivative.rglob(f"*{MNI}*")} == {
        f"sub-1_{MNI}_label-lesion_desc-FLAIR_mask.nii.gz",
        f"sub-1_{MNI}_label-lesion_desc-FLAIR_mask.json",
        f"sub-1_{MNI}_desc-FLAIRanomaly_statmap.nii.gz",
        f"sub-1_{MNI}_FLAIR.nii.gz",
        f"sub-1_{MNI}_FLAIR.json",
    }
    assert all(map(is_own, derivative.rglob("*.nii.gz")))
    if program := shutil.which("bids-validator-deno", path=str(Path(sys.executable).parent)):
        checked = subprocess.run([program, "--json", derivative], capture_output=True, text=True, timeout=300)
        found = json.loads(checked.stdout)["issues"]["issues"]
        assert [one for one in found if one["code"] != "TOO_FEW_AUTHORS"] == []
    assert call(*asked).code == 0
    assert not list(out.rglob(f"*{MNI}*"))  # the new set has none


def test_without_the_atlas_nothing_is_begun(
    histeq: Path, small_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registration._icbm.cache_clear()
    monkeypatch.setattr("uadtk.io.icbm.find_spec", lambda _: None)
    scan = small_cohort.parent / "s4.nii.gz"
    done = call("segment", scan, "--model", histeq, "-o", tmp_path / "out", "--space", "MNI")
    done.refused(6, "atlas", 'pip install "uadtk[phantom]"')
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_phantom_is_brought_to_the_atlas_it_was_made_from(tmp_path: Path) -> None:
    stored: Any = nib.load(SCAN)
    voxels = np.asarray(stored.dataobj, np.float32)[::2, ::2, ::2]
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]]
    turn[:3, 3] = 12, -8, 5
    affine = turn @ stored.affine @ np.diag([2.0, 2, 2, 1])
    brain = voxels > 0
    found = registration.register(Scan(voxels, affine), Mask(brain, affine), "affine")
    there = found.to_atlas(brain, nearest=True) > 0
    assert dice(there, registration._icbm().voxels > 0) > 0.93
    assert dice(found.to_scan(there) > 0.5, brain) > 0.98
