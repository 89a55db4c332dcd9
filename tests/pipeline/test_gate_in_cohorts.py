"""The gate before calibration, evaluation and training: what is refused, what is warned about, and what is recorded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.cli.conftest import call, histeq  # noqa: F401
from tests.scans import SMALL_AFFINE, small_brain
from uadtk import checkpoint as checkpoints
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.io.cohort import read_cohort
from uadtk.pipeline.evaluate import bare_of
from uadtk.pipeline.score import build_method
from uadtk.pipeline.scored import score_all
from uadtk.study.receipt import checkpoint_of, key_of
from uadtk.training.slices import load_slices
from uadtk.training.statistics import usual_contrast

REFUSED = "sub-2: failed: "


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Four FLAIR scans and a T1 (sub-2) by their names, each with a lesion mask."""
    lines = ["subject\timage\tlesion_mask\tlesion_free_slices\tsplit"]
    for number in range(5):
        image, _, lesion = small_brain(number, lesion=True)
        name = f"sub-{number}_{'T1w' if number == 2 else 'FLAIR'}.nii.gz"
        nib.save(nib.Nifti1Image(image, SMALL_AFFINE), tmp_path / name)
        nib.save(nib.Nifti1Image(lesion.astype(np.uint8), SMALL_AFFINE), tmp_path / f"l{number}.nii.gz")
        lines.append(f"sub-{number}\t{name}\tl{number}.nii.gz\t3 4 5\t{'validation' if number > 2 else 'train'}")
    (tmp_path / "cohort.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path / "cohort.tsv"


def test_a_t1_moves_no_operating_point(mixed: Path, tmp_path: Path) -> None:
    arguments = ("threshold", "--model", "histeq", "--healthy", mixed, "-o")
    done = call(*arguments, tmp_path / "t.safetensors")
    assert done.code == 0, done
    (line,) = [line for line in done.err.splitlines() if line.startswith(REFUSED)]
    assert "T1-weighted" in line
    assert "--force" in line
    (point,) = checkpoints.load(tmp_path / "t.safetensors").points
    assert (point.scans, point.failed, point.measured["amber_scans"]) == (4, 1, 4)
    assert done.err.count(": amber: ") == 4
    assert call(*arguments, tmp_path / "f.safetensors", "--force").code == 0
    assert checkpoints.load(tmp_path / "f.safetensors").points[0].scans == 5


@pytest.mark.slow
def test_a_t1_counts_in_no_evaluation(histeq: Path, mixed: Path) -> None:  # noqa: F811
    done = call("evaluate", histeq, mixed, "--json")
    assert done.code == 1
    assert REFUSED in done.err
    (found,) = json.loads(done.out)
    assert len(found["scans"]) == 4
    assert {scan["light"] for scan in found["scans"]} == {"amber"}
    assert found["failed"][0][0].endswith("sub-2_T1w.nii.gz")
    assert found["options"]["worst_light"] == "amber"
    forced = call("evaluate", histeq, mixed, "--json", "--force")
    assert forced.code == 0, forced
    (found,) = json.loads(forced.out)
    assert [scan["light"] for scan in found["scans"]].count("red") == 1


def test_a_t1_is_not_learned_from(mixed: Path, tmp_path: Path) -> None:
    tiny = ("--levels", 1, "--widths", 4, "--latent", 4, "--epochs", 1, "--threads", 1)
    done = call("train", "scalespace", mixed, "-o", tmp_path / "m.safetensors", *tiny)
    assert done.code == 0, done
    assert REFUSED in done.err
    training = checkpoints.load(tmp_path / "m.safetensors").training
    assert training["gate"] == {"train": {"amber": 2}, "validation": {"amber": 2}, "worst": "amber"}
    assert training["statistics"]["scans"] == 2
    done = call("train", "scalespace", mixed, "-o", tmp_path / "f.safetensors", *tiny, "--force")
    assert REFUSED not in done.err
    assert checkpoints.load(tmp_path / "f.safetensors").training["gate"]["train"] == {"amber": 2, "red": 1}


def test_slices_prepared_by_force_are_not_used_without(mixed: Path, tmp_path: Path) -> None:
    rows = list(read_cohort(mixed))

    def scans(run: Run) -> int:
        return load_slices(rows, Preparation(), True, run, "scans", tmp_path / "cache").scans

    assert [scans(Run()), scans(Run(worst="red")), scans(Run())] == [4, 5, 4]


def test_the_contrast_of_a_cohort_is_that_of_most(mixed: Path) -> None:
    rows = list(read_cohort(mixed))
    assert usual_contrast(rows, Run()) == {"contrasts": {"FLAIR": 4, "T1": 1}}


def test_a_model_of_t1_and_its_baseline_take_t1(mixed: Path, tmp_path: Path) -> None:
    rows, bare = read_cohort(mixed), checkpoints.new("histeq", {}, Preparation())
    of_t1 = replace(bare, training={checkpoints.STATISTICS: {"contrasts": {"T1": 3}}})
    key = key_of(of_t1, rows, None, "native", Run())
    assert key["contrast"] == "T1"
    assert "contrast" not in key_of(bare, rows, None, "native", Run())
    for name, checkpoint in (("own", of_t1), ("bare", bare_of(of_t1)), ("again", checkpoint_of("histeq", key))):
        said: list[str] = []
        run = Run(say=said.append)
        found = score_all(list(rows), build_method(checkpoint, run), [()], tmp_path / name, run)
        assert [scan.subject for scan in found] == ["sub-2"]
        assert sum("its name says that it is FLAIR" in line for line in said) == 4
