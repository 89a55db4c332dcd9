"""``uadtk selfteach`` as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import pytest

from tests.commands import Done, call
from tests.scans import SMALL_AFFINE, small_brain
from uadtk import checkpoint as checkpoints


@pytest.fixture(autouse=True)
def short_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pass over the few slices of a test is an epoch."""
    monkeypatch.setattr("uadtk.training.batches.LEAST_STEPS", 1)


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three patients in a folder, without any table or mask."""
    folder = tmp_path_factory.mktemp("scans")
    for k in range(3):
        nib.save(nib.Nifti1Image(small_brain(k, lesion=True)[0], SMALL_AFFINE), folder / f"p{k}.nii.gz")
    return folder


def selfteach(teacher: object, scans: object, output: Path, *arguments: object) -> Done:
    tiny = ("--student", "unet:width=2,depth=2", "--epochs", 1, "--threads", 1)
    return call("selfteach", teacher, scans, "-o", output, *tiny, *arguments)


def test_one_command_from_a_teacher_and_scans_to_a_student_that_segments(
    histeq: Path, scans: Path, tmp_path: Path
) -> None:
    output = tmp_path / "student.safetensors"
    done = selfteach(histeq, scans, output, "--band", 0.001, "--mirrored", 0.5, "--cleaner", "erode")
    assert done.code == 0, done
    assert done.out == f"{output}\n"
    kept = sorted(path.name for path in (tmp_path / "student.labels" / "round-1").iterdir())
    ends = ("desc-brain_mask.nii.gz", "desc-ignore_mask.nii.gz", "label-lesion_mask.nii.gz", "labels.json")
    assert kept == ["cohort.tsv", *(f"p{k}_{end}" for k in range(3) for end in ends)]
    facts = json.loads(call("inspect", output, "--json").out)
    assert facts["training"]["teacher"]["source"] == str(histeq)
    assert facts["training"]["teacher_point"]["name"] == "p98"
    assert facts["training"]["selfteach"]["mirrored"] == 0.5
    assert [point["name"] for point in facts["points"]] == ["half"]
    assert facts["cleaners"] == ["erode"]
    found = call("segment", scans / "p0.nii.gz", "--model", output, "-o", tmp_path / "out", "--threads", 1)
    assert found.code == 0, found
    table = tmp_path / "student.labels" / "round-1" / "cohort.tsv"
    measured = call("evaluate", output, table, "--threads", 1)
    assert measured.code == 0, measured
    assert "point half: score > 0.5" in measured.err
    again = selfteach(histeq, scans, output)
    again.refused(2, str(output), "output exists")


def test_the_labels_can_be_trained_on_by_hand(histeq: Path, scans: Path, tmp_path: Path) -> None:
    """The table a person may have corrected gives the student of the command."""
    taught = tmp_path / "a.safetensors"
    assert selfteach(histeq, scans, taught, "--labels", tmp_path / "labels").code == 0
    by_hand = tmp_path / "b.safetensors"
    table = tmp_path / "labels" / "round-1" / "cohort.tsv"
    options = ("--width", 2, "--depth", 2, "--epochs", 1, "--threads", 1)
    done = call("train", "unet", table, "-o", by_hand, *options)
    assert done.code == 0, done
    assert checkpoints.load(by_hand).weights == checkpoints.load(taught).weights


def test_bad_input_is_one_line_with_its_exit_code(histeq: Path, scans: Path, tmp_path: Path) -> None:
    output = tmp_path / "s.safetensors"
    selfteach("histeq", scans, output).refused(2, "has no operating point", "uadtk threshold")
    selfteach(histeq, scans, output, "--point", "p99").refused(2, "no operating point 'p99'")
    selfteach(histeq, scans, output, "--student", "vae").refused(2, "'vae' does not learn from labels", "unet")
    selfteach(histeq, scans, output, "--band", 2).refused(2, "--band")
    selfteach(histeq, scans, tmp_path / "s.pt").refused(2, "a checkpoint ends in .safetensors")
    selfteach(histeq, scans, output, "--labelled", scans).refused(3, "subject 'p0' is in", "(3 in both)")
    selfteach(histeq, scans / "p0.nii.gz", output).refused(3, "needs at least two subjects")
    selfteach(tmp_path / "none.safetensors", scans, output).refused(4, "cannot be read")
    assert not list(tmp_path.iterdir())


def test_a_teacher_that_finds_nothing_is_one_line(histeq: Path, scans: Path, tmp_path: Path) -> None:
    done = selfteach(histeq, scans, tmp_path / "s.safetensors", "--min-voxels", 100_000)
    done.refused(3, "the teacher finds nothing to learn in 3 scans (point 'p98')", "--point")


def test_a_labelled_mask_on_another_grid_is_one_line(
    histeq: Path, scans: Path, small_cohort: Path, tmp_path: Path
) -> None:
    mask = tmp_path / "m.nii.gz"
    nib.save(nib.Nifti1Image(small_brain(4)[0][:20], SMALL_AFFINE), mask)
    (tmp_path / "few.tsv").write_text(
        f"subject\timage\tlesion_mask\nx\t{small_cohort.parent / 's4.nii.gz'}\tm.nii.gz\n"
    )
    done = selfteach(histeq, scans, tmp_path / "s.safetensors", "--labelled", tmp_path / "few.tsv")
    done.refused(3, "m.nii.gz", "the mask's grid", "is not the scan's")


def test_it_does_not_run_in_several_processes(
    histeq: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    selfteach(histeq, scans, tmp_path / "s.safetensors").refused(2, "torchrun", "one process", "uadtk train unet")


def test_help_names_what_it_asks_for_and_no_option_of_unsupervised_training() -> None:
    done = call("selfteach", "--help")
    assert done.code == 0
    for option in ("--labelled", "--rounds", "--band", "--confident", "--mirrored", "--epochs", "--labels"):
        assert option in done.out
    for option in ("--trim", "--masked", "--discriminate"):
        assert option not in done.out


def test_its_module_loads_nothing_heavy() -> None:
    code = "import sys, uadtk.cli.selfteach; print(*(set(sys.modules) & {'torch', 'numpy', 'numba', 'nibabel'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
