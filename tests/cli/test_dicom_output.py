"""``uadtk segment --dicom-seg --dicom-sr``: written with the set, named by its manifest, refused before any work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import nibabel as nib
import numpy as np
import pytest

import uadtk
from tests.cli.conftest import call
from tests.conftest import SMALL_AFFINE, small_brain
from uadtk.core.errors import DataError
from uadtk.io.cohort import read_cohort
from uadtk.io.read import read_scan
from uadtk.pipeline.sources import describe
from uadtk.report.mosaic import FOUND

pydicom = pytest.importorskip("pydicom", reason="needs pip install uadtk[dicom]")
pytest.importorskip("highdicom", reason="needs pip install uadtk[dicom]")
from tests import dicom_writer as dw  # noqa: E402

STORED = np.clip(small_brain(3, lesion=True)[0], 0, None).round().astype("u2")
NAME = "P-0815"


def series(folder: Path, affine: np.ndarray = SMALL_AFFINE, **tags: Any) -> Path:
    return dw.write(folder, dw.slices(STORED, affine, **{"FrameOfReferenceUID": "1.2.9", **tags}))


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.dcm")}


def assert_is_the_mask(folder: Path, scan: Path, name: str = NAME) -> None:
    """In the order of the slices: each frame lies where the scan's slice lies."""
    seg, mask = pydicom.dcmread(folder / f"{name}_seg.dcm"), nib.load(folder / f"{name}_label-lesion_mask.nii.gz")
    read = read_scan(scan)
    found = np.zeros(read.shape, bool)
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    at = [groups.PlanePositionSequence[0].ImagePositionPatient for groups in seg.PerFrameFunctionalGroupsSequence]
    for pixels, position in zip(frames, at, strict=True):
        (k,) = [k for k, one in enumerate(read.origin.slices) if np.allclose(one.position, position, atol=1e-4)]
        found[:, :, k] |= pixels.T > 0
    assert found.any()
    np.testing.assert_array_equal(found, mask.get_fdata() > 0)


def test_they_are_part_of_the_set_and_follow_the_options(histeq, tmp_path):
    scan, out = series(tmp_path / "in"), tmp_path / "out"
    command = ("segment", scan, "--model", histeq, "-o", out)
    done = call(*command, "--dicom-sr")
    assert done.code == 0, done
    files = json.loads((out / f"{NAME}_provenance.json").read_text())["files"]
    assert {f"{NAME}_seg.dcm", f"{NAME}_sr.dcm"} <= set(files)
    assert_is_the_mask(out, scan)
    first = written(out)

    again = call(*command, "--dicom-sr")
    assert (again.code, again.err.count("done again")) == (0, 0), again
    assert written(out) == first

    pictured = call(*command, "--dicom-sc")
    assert pictured.code == 0, pictured
    assert set(written(out)) == {f"{NAME}_sc.dcm"}
    made = pydicom.dcmread(out / f"{NAME}_sc.dcm")
    assert made.PatientID == NAME
    shown = made.pixel_array.reshape(-1, 3)
    assert (shown == FOUND).all(axis=1).sum() > 100  # the outlines

    other = call(*command, "--dicom-seg")
    assert other.code == 0, other
    assert "done again: other options" in other.err
    assert written(out) == {f"{NAME}_seg.dcm": first[f"{NAME}_seg.dcm"]}

    none = call(*command)
    assert none.code == 0, none
    assert written(out) == {}


@pytest.mark.slow
def test_processes_write_them_too(histeq, tmp_path):
    scans = [series(tmp_path / f"in/{n}", StudyInstanceUID=f"1.2.{n}", PatientID=f"P{n}") for n in (1, 2)]
    done = call("segment", tmp_path / "in", "--model", histeq, "-o", tmp_path / "out", "--dicom-seg", "--jobs", 2)
    assert done.code == 0, done
    for scan in scans:
        assert_is_the_mask(tmp_path / "out", scan, f"P{scan.name}")


def nifti(folder: Path) -> Path:
    folder.mkdir()
    nib.save(nib.Nifti1Image(STORED, SMALL_AFFINE), folder / "a.nii.gz")
    return folder / "a.nii.gz"


def with_a_gap(folder: Path) -> Path:
    (series(folder) / "IM009").unlink()
    return folder


def without_a_frame_of_reference(folder: Path) -> Path:
    return dw.write(folder, dw.slices(STORED, SMALL_AFFINE))


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (nifti, "is not DICOM"),
        (without_a_frame_of_reference, "no FrameOfReferenceUID"),
        (with_a_gap, "1 of 24 slices are missing"),
    ],
)
@pytest.mark.parametrize("option", ["--dicom-seg", "--dicom-sr"])
def test_what_cannot_be_is_refused_in_one_line_before_the_network_runs(
    make, what, option, histeq, tmp_path, monkeypatch
):
    monkeypatch.setattr("uadtk.pipeline.segment.segment", lambda *_: pytest.fail("it ran"))
    done = call("segment", make(tmp_path / "in"), "--model", histeq, "-o", tmp_path / "out", option)
    assert done.code == 3, done
    (line,) = [line for line in done.err.splitlines() if "error" in line.lower() or what in line]
    assert what in line
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("scans", "out"),
    [("in", "in/out"), ("in/a", "in/a/out"), ("in/a", "in/a"), ("in", "in"), ("in/a/IM003", "in/a"), ("in", "in/a")],
)
def test_results_inside_the_input_are_no_part_of_it(scans, out, histeq, tmp_path):
    series(tmp_path / "in/a")
    bare = digests(tmp_path / scans)
    command = ("segment", tmp_path / scans, "--model", histeq, "-o", tmp_path / out, "--dicom-sr", "--dicom-sc")
    first = call(*command)
    assert (tmp_path / out / f"{NAME}_sr.dcm").exists(), first
    (tmp_path / "in/a/notes.txt").write_text("beside the slices")
    again = call(*command)
    assert (first.code, again.code) == (0, 0), (first, again)
    assert "1 of 1 were done before" in again.err, again
    assert digests(tmp_path / scans) == bare


def test_results_of_two_studies_beside_them_leave_their_paths_as_they_were(histeq, tmp_path):
    for study in ("1", "2"):
        series(tmp_path / f"in/{study}", StudyInstanceUID=f"1.2.3.{study}", SeriesInstanceUID=f"1.2.3.{study}.7")
    command = ("segment", tmp_path / "in", "--model", histeq, "-o", tmp_path / "in", "--dicom-seg")
    assert call(*command).code == 0
    assert {path.name for path in (tmp_path / "in").glob("*.dcm")} == {f"{NAME}_seg.dcm", f"{NAME}_2_seg.dcm"}
    again = call(*command)
    assert "2 of 2 were done before" in again.err, again


@pytest.mark.slow
def test_studies_of_one_patient_become_sessions_in_whichever_run_they_come(histeq, tmp_path):
    command = ("segment", tmp_path / "in", "--model", histeq, "-o", tmp_path / "out", "--layout", "bids")
    derivative, expected = tmp_path / "out/derivatives/uadtk", set[str]()
    for study, date, session in (
        ("b", "20210203", "ses-20210203"),
        ("a", "20200115", "ses-20200115"),  # read before the first, from now on
        ("c", "20210203", "ses-20210203"),
        ("d", "", ""),
    ):
        uid = f"1.2.{ord(study)}"
        series(tmp_path / "in" / study, StudyDate=date, StudyInstanceUID=uid, SeriesInstanceUID=f"{uid}.7")
        done = call(*command)
        assert done.code == 0, done
        run = f"run-{len(expected) + 1}" if expected else ""
        entities = "_".join(filter(None, ("sub-P0815", session, run)))
        expected.add(f"{entities}_label-lesion_desc-FLAIR_mask.nii.gz")
        masks = list(derivative.rglob("*lesion_desc-FLAIR_mask.nii.gz"))
        assert {path.name for path in masks} == expected
        assert {path.parents[1].name for path in masks if "_ses-" not in path.name} <= {"sub-P0815"}


def test_a_folder_of_results_holds_no_scan(histeq, tmp_path):
    out = tmp_path / "out"
    assert call("segment", series(tmp_path / "in"), "--model", histeq, "-o", out, "--dicom-seg").code == 0
    call("segment", out, "--model", histeq, "-o", tmp_path / "again").refused(3, "no NIfTI images in the folder")


def digests(scans: Path) -> list[dict[str, str]]:
    return [describe(row) for row in read_cohort(scans)]


def test_from_python_and_not_into_a_bids_derivative(histeq, tmp_path, monkeypatch):
    model, scan, listing = uadtk.open(histeq), series(tmp_path / "in"), Mock(wraps=read_cohort)
    monkeypatch.setattr("uadtk.pipeline.sources.read_cohort", listing)
    result = model.segment(scan)
    listing.assert_called_once()  # reads all headers
    assert result.provenance["input"]["subject"] == result.name == NAME
    paths = result.save(tmp_path / "out", dicom_seg=True)
    assert paths["dicom_seg"] == tmp_path / f"out/{NAME}_seg.dcm"
    assert "dicom_sr" not in paths
    assert_is_the_mask(tmp_path / "out", scan)
    assert call("export-bids", tmp_path / "out", tmp_path / "bids").code == 0
    assert not [path for path in (tmp_path / "bids").rglob("*") if b"Doe" in path.name.encode() or ".dcm" in path.name]
    with pytest.raises(DataError, match="is not DICOM"):
        model.segment(nifti(tmp_path / "nifti")).save(tmp_path / "other", dicom_sr=True)
    assert not (tmp_path / "other").exists()


def test_watch_writes_them(histeq, tmp_path):
    scan = series(tmp_path / "incoming/a")
    watch = ("watch", tmp_path / "incoming", "-o", tmp_path / "out", "--model", histeq, "--once", "--settle", 0.1)
    done = call(*watch, "--dicom-seg")
    assert done.code == 0, done
    assert_is_the_mask(tmp_path / "out", scan)
