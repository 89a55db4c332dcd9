from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from uadtk.cli.phantom import phantom
from uadtk.core.errors import DataError, UsageError
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.io.cohort import read_cohort
from uadtk.training.slices import load_slices

COARSE: dict[str, Any] = {"slice_mm": 5.0, "in_plane_mm": 2.0}


def test_writes_scans_masks_and_the_table_that_lists_them(
    tmp_path: Path, label_map: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    phantom(tmp_path / "out", count=2, lesions="ms", lesion_ml=8.0, seed=4, labels=label_map, **COARSE)
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "cohort.tsv")
    cohort = read_cohort(tmp_path / "out" / "cohort.tsv")
    assert [row.subject for row in cohort] == ["sub-phantom001", "sub-phantom002"]
    for seed, row in enumerate(cohort, 4):
        assert (row.group, row.collection) == ("ms", "phantom")
        assert row.lesion_mask is not None
        assert row.brain_mask is not None
        image, lesion, brain = (nibabel.load(p) for p in (row.image, row.lesion_mask, row.brain_mask))
        np.testing.assert_array_equal(image.affine, lesion.affine)
        np.testing.assert_array_equal(np.asarray(image.dataobj)[np.asarray(brain.dataobj) == 0], 0)
        assert np.asarray(lesion.dataobj).sum() * 0.02 == pytest.approx(8, rel=0.1)
        facts = json.loads((tmp_path / "out" / f"{row.subject}_FLAIR.json").read_text())
        assert facts["seed"] == seed


def test_healthy_phantoms_have_no_lesion_mask(tmp_path: Path, label_map: Path) -> None:
    phantom(tmp_path / "out", labels=label_map.parent, **COARSE)
    with (tmp_path / "out" / "cohort.tsv").open() as table:
        (row,) = csv.DictReader(table, delimiter="\t")
    assert (row["site"], row["group"], row["lesion_mask"]) == ("head.nii.gz", "healthy", "")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "cohort.tsv",
        "sub-phantom001_FLAIR.json",
        "sub-phantom001_FLAIR.nii.gz",
        "sub-phantom001_desc-brain_mask.nii.gz",
    ]


def test_slices_to_train_on(tmp_path: Path, label_map: Path) -> None:
    """What a training takes of the phantom, and no empty slices."""
    phantom(tmp_path / "out", labels=label_map, slices=True, flat=True, prepare="percentile=90", **COARSE)
    found = np.load(tmp_path / "out" / "slices.npy")
    (row,) = read_cohort(tmp_path / "out" / "cohort.tsv")
    loaded = load_slices([row], Preparation(percentile=90), False, Run(), "scans", tmp_path / "cache")
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, loaded.image, atol=2e-3)
    with pytest.raises(UsageError, match="output exists"):
        phantom(tmp_path / "out", labels=label_map, slices=True, **COARSE)


def test_refuses_before_it_works_and_leaves_nothing_half_done(tmp_path: Path, label_map: Path) -> None:
    (tmp_path / "cohort.tsv").write_text("mine")
    with pytest.raises(UsageError, match="output exists"):
        phantom(tmp_path, **COARSE)
    assert (tmp_path / "cohort.tsv").read_text() == "mine"
    with pytest.raises(UsageError, match="contrast"):
        phantom(tmp_path / "new", labels=label_map, lesions="ms", contrast=9.0, **COARSE)
    assert not (tmp_path / "new").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no label maps"):
        phantom(tmp_path / "new", labels=tmp_path / "empty")
