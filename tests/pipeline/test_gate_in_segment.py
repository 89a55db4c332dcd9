"""What the gate refuses, and where it is told: errors, summary, findings, provenance and report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.cli.conftest import Done, call, histeq, scan, segment  # noqa: F401
from tests.conftest import SMALL_AFFINE, small_brain
from uadtk import interface
from uadtk.core.errors import DataError, GateError, UsageError

Segment = Callable[..., Done]


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    path = tmp_path / "p1.nii.gz"
    nib.save(nib.Nifti1Image(small_brain()[1].astype(np.uint8), SMALL_AFFINE), path)
    return path


def test_red_is_refused_with_its_reason(segment: Segment, mask: Path) -> None:  # noqa: F811
    segment(scans=(mask,)).refused(3, "p1.nii.gz", "binary mask", "--force")


def test_the_name_of_another_contrast_is_refused(segment: Segment, scan: Path, tmp_path: Path) -> None:  # noqa: F811
    shutil.copy(scan, tmp_path / "sub-01_T1w.nii.gz")
    segment(scans=(tmp_path / "sub-01_T1w.nii.gz",)).refused(3, "T1-weighted")


def test_force_lets_red_pass_and_says_so(segment: Segment, scan: Path, tmp_path: Path) -> None:  # noqa: F811
    shutil.copy(scan, tmp_path / "sub-01_T1w.nii.gz")
    done = segment("--force", scans=(tmp_path / "sub-01_T1w.nii.gz",))
    assert done.code == 0, done
    assert "red: its name says that it is a T1-weighted image" in done.err
    out = tmp_path / "out"
    record = json.loads((out / "sub-01_provenance.json").read_text())
    assert record["gate"]["light"] == "red"
    assert record["gate"]["measured"]["volume_ml"] == pytest.approx(794, abs=5)
    assert record["options"]["worst_light"] == "red"
    findings = json.loads((out / "sub-01_findings.json").read_text())
    assert {reason["check"] for reason in findings["gate"]["reasons"]} >= {"name", "contrast"}
    assert "its name says that it is a T1-weighted image" in (out / "sub-01_report.html").read_text()


def test_amber_passes_with_one_line_and_not_with_strict(segment: Segment, tmp_path: Path) -> None:  # noqa: F811
    segment("--strict").refused(3, "tissues", "Without --strict")
    assert not (tmp_path / "out").exists()
    done = segment()
    assert done.code == 0, done
    assert done.err.count(": amber: ") == 1
    assert done.out.splitlines()[-1].endswith("\tamber")


def test_strict_and_force_contradict(segment: Segment) -> None:  # noqa: F811
    segment("--strict", "--force").refused(2, "opposite")


def test_the_summary_has_the_lights(segment: Segment, scan: Path, mask: Path, tmp_path: Path) -> None:  # noqa: F811
    assert segment(scans=(scan, mask)).code == 1
    rows = [line.split("\t") for line in (tmp_path / "out" / "summary.tsv").read_text().splitlines()]
    assert rows[0][-1] == "gate"
    assert [row[-1] for row in rows[1:]] == ["amber", "red"]
    assert [row[1] for row in rows[1:]] == ["done", "failed"]


def test_a_mask_over_a_third_of_the_brain_is_amber(histeq: Path, scan: Path) -> None:  # noqa: F811
    from dataclasses import replace

    model = interface.open(histeq)
    low = replace(model.points["p98"], threshold=0.0)
    reasons = model.segment(scan, point=low).gate.reasons
    assert any("of the brain is marked as lesion" in reason.what for reason in reasons)


def test_the_python_interface(histeq: Path, scan: Path, mask: Path) -> None:  # noqa: F811
    model = interface.open(histeq)
    assert model.segment(scan).gate.light == "amber"
    with pytest.raises(GateError, match="binary mask") as refused:
        model.segment(mask)
    assert isinstance(refused.value, DataError)
    assert refused.value.light == "red"
    with pytest.raises(GateError):
        model.segment(scan, strict=True)
    with pytest.raises(UsageError):
        model.segment(scan, strict=True, force=True)


def test_inspect_shows_what_the_gate_sees(histeq: Path, scan: Path, mask: Path) -> None:  # noqa: F811
    done = call("inspect", scan, "--model", histeq)
    assert done.code == 0, done
    assert done.out.startswith("amber")
    assert "volume_ml" in done.out
    record = json.loads(call("inspect", mask, "--model", histeq, "--json").out)
    assert (record["light"], record["reasons"][0]["check"]) == ("red", "values")
    call("inspect", "missing.nii.gz").refused(3, "no such file")
    assert call("inspect", histeq).out.startswith("model")
