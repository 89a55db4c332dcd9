"""Folders, trees and names as they come, by the commands a user runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.cli.conftest import call
from tests.conftest import SMALL_AFFINE, small_brain


def outputs(folder: Path, ending: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob(f"*{ending}")}


def test_segmenting_a_folder_into_itself_finds_the_same_scan_again(histeq: Path, scan: Path, tmp_path: Path) -> None:
    shutil.copy(scan, tmp_path / "p1.nii.gz")
    first = call("segment", tmp_path, "--model", histeq, "-o", tmp_path)
    masks = outputs(tmp_path, ".nii.gz")
    again = call("segment", tmp_path, "--model", histeq, "-o", tmp_path, "--overwrite")
    assert (first.code, first.out) == (again.code, again.out)
    assert first.out.count("done") == 1
    assert outputs(tmp_path, ".nii.gz") == masks
    # What we found is no truth: there is nothing to measure.
    assert "lesion" not in call("evaluate", histeq, tmp_path).out


@pytest.mark.parametrize("coding", ["utf-8", "ascii"])
def test_names_of_any_bytes(histeq: Path, scan: Path, tmp_path: Path, coding: str) -> None:
    names = [b"b\xfc", b"line\nbreak", "a\u202eb".encode(), "\u0645".encode(), b"x" * 248]
    (tmp_path / "in").mkdir()
    for name in names:
        shutil.copy(os.fsencode(scan), os.fsencode(tmp_path / "in") + b"/" + name + b".nii.gz")
    done = subprocess.run(
        [sys.executable, "-m", "uadtk", "segment", "in", "-o", "out", "--model", histeq, "--threads", "1"],
        cwd=tmp_path,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": coding, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert done.stdout.count(b"\tdone\t") == len(names)
    lines = (tmp_path / "out" / "summary.tsv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + len(names)
    assert len(list((tmp_path / "out").glob("*_report.html"))) == len(names)
    for report in (tmp_path / "out").glob("*_report.html"):
        report.read_text(encoding="utf-8")


def test_a_bad_name_in_an_error_is_escaped(histeq: Path, tmp_path: Path) -> None:
    bad = os.fsdecode(os.fsencode(tmp_path) + b"/b\xfc\n.nii")
    done = subprocess.run(
        [sys.executable, "-m", "uadtk", "segment", bad, "--model", histeq],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=300,
    )
    assert done.returncode == 3
    assert done.stderr.count(b"\n") == 1
    assert rb"b\xfc\n.nii: no such file" in done.stderr


def tree(folder: Path, scans: int = 3) -> Path:
    for number in range(scans):
        image, _, lesion = small_brain(number, lesion=True)
        raw, made = (folder / f"{base}sub-{number}/anat" for base in ("", "derivatives/manual/"))
        raw.mkdir(parents=True)
        made.mkdir(parents=True)
        nib.save(nib.Nifti1Image(image, SMALL_AFFINE), raw / f"sub-{number}_FLAIR.nii.gz")
        mask = made / f"sub-{number}_label-lesion_mask.nii.gz"
        affine = SMALL_AFFINE.copy()
        affine[0, 3] += 7 * (number == 2)
        if number == 1:
            mask.symlink_to("../../.git/annex/objects/absent.nii.gz")
        else:
            nib.save(nib.Nifti1Image(lesion.astype(np.uint8), affine), mask)
    return folder


def test_a_lost_lesion_mask_makes_no_one_healthy(histeq: Path, tmp_path: Path) -> None:
    done = call("evaluate", histeq, tree(tmp_path / "tree"))
    assert done.code == 1
    assert "1 scans of 1 patients, 1 with a lesion mask" in done.err
    assert "fp_per_healthy_scan" not in done.out
    for number in (1, 2):
        (line,) = [line for line in done.err.splitlines() if line.startswith(f"sub-{number}: failed: ")]
        assert f"sub-{number}_label-lesion_mask.nii.gz" in line
    done = call("threshold", "--model", "histeq", "--healthy", tmp_path / "tree", "-o", tmp_path / "t.safetensors")
    assert "1 scans" in done.out


def test_patients_without_masks_calibrate_nothing(histeq: Path, small_cohort: Path, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    lines = [f"s{n},{small_cohort.parent / f's{n}.nii.gz'},{group}" for n, group in enumerate(("HC", "MS", "Control"))]
    table.write_text("\n".join(["participant_id,image,Group", *lines]))
    done = call("threshold", "--model", "histeq", "--healthy", table, "-o", tmp_path / "t.safetensors")
    assert "1 scans of patients without a lesion mask are left out" in done.err
    assert "2 scans" in done.out
    table.write_text("subject,image,group\n" + lines[1])
    call("threshold", "--model", "histeq", "--healthy", table, "-o", tmp_path / "u.safetensors").refused(2, "'MS'")


@pytest.mark.parametrize("command", ["evaluate", "threshold", "train"])
def test_the_same_scan_twice_is_refused(histeq: Path, small_cohort: Path, tmp_path: Path, command: str) -> None:
    scan = small_cohort.parent / "s0.nii.gz"
    shutil.copy(scan, tmp_path / "copy.nii.gz")
    shutil.copy(small_cohort.parent / "s1.nii.gz", tmp_path / "other.nii.gz")
    table = tmp_path / "t.tsv"
    table.write_text(f"subject\timage\nA\t{scan}\nB\tcopy.nii.gz\nC\tother.nii.gz\n")
    out = tmp_path / "x.safetensors"
    arguments = {
        "evaluate": ("evaluate", histeq, table),
        "threshold": ("threshold", "--model", "histeq", "--healthy", table, "-o", out),
        "train": ("train", "scalespace", table, "-o", out),
    }[command]
    call(*arguments).refused(3, "'A'", "'B'", "same content")
    assert call("segment", table, "--model", histeq, "-o", tmp_path / "out").code == 0
