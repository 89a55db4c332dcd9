"""``uadtk segment`` on DICOM: the same mask as of the same image in NIfTI, and no patient's name anywhere."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import uadtk
from tests.cli.conftest import call
from tests.conftest import SMALL_AFFINE, small_brain

pytest.importorskip("pydicom", reason="needs pip install uadtk[dicom]")
from tests import dicom_writer as dw

STORED = np.clip(small_brain(3, lesion=True)[0], 0, None).round().astype("u2")


@pytest.fixture(scope="module")
def mask(histeq: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    folder = tmp_path_factory.mktemp("nifti")
    nib.save(nib.Nifti1Image(STORED, SMALL_AFFINE), folder / "a.nii.gz")
    done = call("segment", folder / "a.nii.gz", "--model", histeq, "-o", folder / "out")
    assert done.code == 0, done
    found = canonical(folder / "out/a_label-lesion_mask.nii.gz")
    assert found.any()
    return found


def canonical(path: Path) -> np.ndarray:
    return nib.as_closest_canonical(nib.load(path)).get_fdata()


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dicom") / "Doe Jane"
    return dw.write(folder, dw.slices(STORED, SMALL_AFFINE))


@pytest.mark.parametrize("kind", ["folder", "file", "zip"])
def test_a_series_gives_the_mask_of_the_same_nifti(histeq, mask, series, tmp_path, kind):
    source = {"folder": series, "file": series / "IM007", "zip": tmp_path / "study.zip"}[kind]
    if kind == "zip":
        with zipfile.ZipFile(source, "w") as packed:
            for path in series.iterdir():
                packed.write(path, path.name)
    done = call("segment", source, "--model", histeq, "-o", tmp_path / "out")
    assert done.code == 0, done
    assert done.out.splitlines()[1].startswith("P-0815\tdone\t")
    np.testing.assert_array_equal(canonical(tmp_path / "out/P-0815_label-lesion_mask.nii.gz"), mask)
    assert not any("doe" in path.name.lower() for path in (tmp_path / "out").iterdir())
    record = json.loads((tmp_path / "out/P-0815_provenance.json").read_text())["input"]
    assert record["facts"]["SeriesDescription"] == "t2_flair_tra"
    assert len(record["sha256"]) == 64
    assert "t2_flair_tra" in (tmp_path / "out/P-0815_report.html").read_text()


def test_a_study_says_which_series_it_took(histeq, mask, series, tmp_path):
    study = tmp_path / "study"
    t1 = {"SeriesInstanceUID": "1.2.3.1.2", "SeriesNumber": 2, "SeriesDescription": "t1_se", "EchoTime": 12}
    dw.write(study / "a", dw.slices(STORED[:, :, ::-1], SMALL_AFFINE, **t1))
    dw.write(study / "b", dw.slices(STORED, SMALL_AFFINE))
    done = call("segment", study, "--model", histeq, "-o", tmp_path / "out")
    assert done.code == 0, done
    assert "P-0815: took series 7 't2_flair_tra' (24 images); left 2 't1_se' (24 images)" in done.err
    np.testing.assert_array_equal(canonical(tmp_path / "out/P-0815_label-lesion_mask.nii.gz"), mask)
    record = json.loads((tmp_path / "out/P-0815_provenance.json").read_text())["input"]
    assert "took series 7" in record["notes"][0]


def test_a_folder_of_studies_is_a_cohort_and_one_that_fails_costs_one_line(histeq, mask, tmp_path):
    for number in (1, 2, 3):
        tags = {"StudyInstanceUID": f"1.2.{number}", "SeriesInstanceUID": f"1.2.{number}.1", "PatientID": f"P{number}"}
        files = dw.slices(STORED, SMALL_AFFINE, **tags)
        dw.write(tmp_path / f"in/s{number}", [f for k, f in enumerate(files) if number != 2 or k != 9])
    done = call("segment", tmp_path / "in", "--model", histeq, "-o", tmp_path / "out")
    assert done.code == 1, done
    lines = (tmp_path / "out/summary.tsv").read_text().splitlines()[1:]
    assert [line.split("\t")[:2] for line in lines] == [["P1", "done"], ["P2", "failed"], ["P3", "done"]]
    assert "1 of 24 slices are missing" in lines[1]
    np.testing.assert_array_equal(canonical(tmp_path / "out/P3_label-lesion_mask.nii.gz"), mask)


def test_from_python(histeq, mask, series, tmp_path):
    result = uadtk.open(histeq).segment(series)
    assert result.name == "P-0815"
    paths = result.save(tmp_path)
    np.testing.assert_array_equal(canonical(paths["mask"]), mask)
