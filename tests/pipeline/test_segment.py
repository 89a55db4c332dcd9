"""The main job on small scans: every file, the scan's own grid, any orientation, cohorts with failures."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.scans import SMALL_AFFINE, small_brain, turned
from uadtk import checkpoint as checkpoints
from uadtk.core.errors import UsageError
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.spec import Spec, parse_all
from uadtk.core.thresholder import OperatingPoint
from uadtk.core.volume import Mask, Scan, Volume
from uadtk.io.cohort import Cohort, read_cohort
from uadtk.io.lookup import lookup_tables
from uadtk.pipeline.archive import segment_cohort
from uadtk.pipeline.score import Method, build_method, score_map
from uadtk.pipeline.segment import Rules, segment, segment_file
from uadtk.pipeline.threshold import calibrate, cross_calibrate


@pytest.fixture(scope="module")
def method(small_cohort: Path) -> Method:
    """Histogram equalisation with its p98 point on the healthy scans: no training, so the test is about the path."""
    bare = replace(
        checkpoints.new("histeq", {}, Preparation()), cleaners=parse_all(["erode:iterations=1", "median:size=3"])
    )
    point = calibrate(bare, read_cohort(small_cohort).split("train"), Spec("p98"), "", Run())
    return build_method(bare.with_point(point), Run())


def patient() -> tuple[Scan, np.ndarray]:
    image, _, lesion = small_brain(4, lesion=True)
    return Scan(image, SMALL_AFFINE), lesion


def test_the_lesion_is_found_on_the_scans_own_grid(method: Method) -> None:
    scan, lesion = patient()
    result = segment(scan, method, method.checkpoint.point("p98"), Run())
    assert result.mask.voxels.shape == scan.shape
    np.testing.assert_array_equal(result.mask.affine, scan.affine)
    overlap = (result.mask.voxels & lesion).sum() / lesion.sum()
    assert overlap > 0.7
    first = result.findings[0]
    place = np.argwhere(lesion).mean(axis=0)
    np.testing.assert_allclose(first.centroid_mm, scan.affine[:3, :3] @ place + scan.affine[:3, 3], atol=6)
    assert first.volume_ml == pytest.approx((result.components.voxels == 1).sum() * scan.voxel_ml)
    assert first.peak > result.point.threshold


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SLA"])
def test_orientation_does_not_matter(method: Method, codes: str) -> None:
    scan, _ = patient()
    stored = turned(Volume(scan.voxels, scan.affine), codes)
    expected = turned(Volume(score_map(scan, method, Run()).score.voxels, scan.affine), codes).voxels
    np.testing.assert_allclose(
        score_map(Scan(stored.voxels, stored.affine), method, Run()).score.voxels, expected, atol=1e-5
    )


def test_an_oblique_affine_is_kept(method: Method) -> None:
    angle = np.deg2rad(12)
    turn = np.eye(4)
    turn[:3, :3] = [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    scan = Scan(patient()[0].voxels, turn @ SMALL_AFFINE)
    np.testing.assert_array_equal(score_map(scan, method, Run()).score.affine, scan.affine)


def test_small_components_are_dropped_by_voxels_or_millilitres(method: Method) -> None:
    scan, _ = patient()
    point = method.checkpoint.point("p98")
    by_voxels = segment(scan, method, point, Run(), rules=Rules(min_voxels=1))
    by_volume = segment(scan, method, point, Run(), rules=Rules(min_volume_ml=2.0))
    assert len(by_volume.findings) <= len(by_voxels.findings)
    assert all(finding.volume_ml >= 2.0 for finding in by_volume.findings)
    for by in (0.999, 0.99999, 1.0, 1.00001, 1.001):  # no tie where the volume is a whole number of voxels
        assert Rules(min_volume_ml=0.9).smallest(0.045 * by, point) == 20


def test_a_point_brings_the_size_of_components_it_was_calibrated_for(method: Method) -> None:
    scan, _ = patient()
    said: list[str] = []
    plain = method.checkpoint.point("p98")
    point = replace(plain, min_voxels=40)
    assert (Rules().smallest(1.0, plain), Rules().smallest(1.0, point), Rules(3).smallest(1.0, point)) == (8, 40, 3)
    found = segment(scan, method, point, Run(say=said.append))
    assert found.findings
    assert all(finding.volume_ml >= 40 * scan.voxel_ml for finding in found.findings)
    assert not said
    segment(scan, method, point, Run(say=said.append), rules=Rules(min_voxels=39))
    assert said == [
        "'p98' was calibrated for components of 40 voxels or more: "
        "its guarantee does not cover components this small (39)"
    ]


def test_a_point_of_other_cleaners_is_refused(method: Method) -> None:
    other = build_method(replace(method.checkpoint, cleaners=()), Run())
    with pytest.raises(UsageError, match="was calibrated for"):
        segment(patient()[0], other, method.checkpoint.point("p98"), Run())


def test_all_files_are_written_and_agree(method: Method, small_cohort: Path, tmp_path: Path) -> None:
    row = next(row for row in read_cohort(small_cohort) if row.split == "test")
    point = method.checkpoint.point("p98")
    result = segment_file(row, "sub-s4", method, point, tmp_path / "out", Run(), Rules(), overwrite=False)
    out = tmp_path / "out"
    names = {path.name.removeprefix("sub-s4_") for path in out.iterdir()}
    assert names == {
        "label-lesion_mask.nii.gz",
        "label-lesion_dseg.nii.gz",
        "desc-anomaly_statmap.nii.gz",
        "desc-brain_mask.nii.gz",
        "findings.json",
        "findings.tsv",
        "provenance.json",
        "report.html",
        "thumbnail.png",
        "dataset_description.json",
        *lookup_tables(),
    }
    source = nib.load(row.image)
    for name in ("label-lesion_mask", "label-lesion_dseg", "desc-anomaly_statmap", "desc-brain_mask"):
        image = nib.load(out / f"sub-s4_{name}.nii.gz")
        assert image.shape == source.shape
        np.testing.assert_allclose(image.affine, source.affine, atol=1e-6)
    mask = np.asarray(nib.load(out / "sub-s4_label-lesion_mask.nii.gz").dataobj) > 0
    np.testing.assert_array_equal(mask, result.mask.voxels)
    findings = json.loads((out / "sub-s4_findings.json").read_text())["findings"]
    table = list(csv.DictReader((out / "sub-s4_findings.tsv").read_text().splitlines(), delimiter="\t"))
    assert len(findings) == len(table) == len(result.findings)
    assert [row["lobe"] for row in table] == [one["lobe"] for one in findings] == [f.lobe for f in result.findings]
    assert float(table[0]["volume_ml"]) == pytest.approx(findings[0]["volume_ml"], rel=1e-5)
    record = json.loads((out / "sub-s4_provenance.json").read_text())
    assert record["checkpoint"]["digest"] == method.checkpoint.digest
    assert {"read", "brain", "prepare", "network", "clean", "return", "components", "write"} <= set(record["seconds"])
    assert record["options"]["point"]["threshold"] == point.threshold


def test_outputs_are_not_overwritten_unless_asked(method: Method, small_cohort: Path, tmp_path: Path) -> None:
    row = next(iter(read_cohort(small_cohort)))
    point = method.checkpoint.point("p98")
    segment_file(row, "s", method, point, tmp_path, Run(), Rules(), overwrite=False)
    before = (tmp_path / "s_report.html").read_bytes()
    with pytest.raises(UsageError, match="output exists"):
        segment_file(row, "s", method, point, tmp_path, Run(), Rules(), overwrite=False)
    assert (tmp_path / "s_report.html").read_bytes() == before
    segment_file(row, "s", method, point, tmp_path, Run(), Rules(), overwrite=True)


def test_one_failure_is_one_outcome(method: Method, small_cohort: Path, tmp_path: Path) -> None:
    rows = list(read_cohort(small_cohort))[:3]
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(rows[1].image.read_bytes()[:500])
    rows[1] = replace(rows[1], image=bad)
    point = method.checkpoint.point("p98")
    outcomes = list(
        segment_cohort(rows, ["s0", "s1", "s2"], method, point, tmp_path / "out", Run(), Rules(), overwrite=False)
    )
    assert [(outcome.place, outcome.row) for outcome in outcomes] == list(enumerate(rows))
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
    assert "bad.nii.gz" in str(outcomes[1].error)
    assert [path.name for path in (tmp_path / "out").glob("s1_*")] == ["s1_failure.json"]
    assert (tmp_path / "out" / "s2_report.html").exists()


def test_a_given_brain_mask_is_used(method: Method) -> None:
    scan, _ = patient()
    brain = small_brain(4)[1].copy()
    brain[:, :, 12:] = False
    result = segment(scan, method, method.checkpoint.point("p98"), Run(), Mask(brain, SMALL_AFFINE))
    assert result.scoring.brain_source == "given"
    assert not result.scoring.score.voxels[~brain].any()


def test_calibration_leaves_lesion_slices_out(method: Method, small_cohort: Path) -> None:
    """The patient's threshold comes from lesion-free slices, so it stays far below the lesion's score."""
    bare = replace(method.checkpoint, points=())
    sick = calibrate(bare, read_cohort(small_cohort).split("test"), Spec("p98"), "sick", Run())
    assert sick.measured["voxel_fpr"] == pytest.approx(0.02, abs=0.005)
    assert sick.name == "sick"
    assert sick.scans == 1


def test_a_floor_in_ml_is_as_many_voxels_as_the_scan_needs(method: Method) -> None:
    point = replace(method.checkpoint.point("p98"), min_ml=0.05)
    assert Rules().smallest(0.004, point) == 13
    assert Rules().smallest(0.1, point) == 1
    assert Rules(min_voxels=5).smallest(0.004, point) == 5
    assert point.smallest == "0.05 ml"
    assert OperatingPoint.from_json(point.to_json()) == point
    assert "min_ml" not in replace(point, min_ml=None).to_json()  # as older versions have written it


def test_a_point_remembers_how_many_findings_lesion_free_scans_have(method: Method, small_cohort: Path) -> None:
    point = calibrate(method.checkpoint, read_cohort(small_cohort).split("test"), Spec("p98"), "sick", Run())
    measured = point.measured
    assert measured["findings_scans"] == 1
    assert measured["findings_median"] == measured["findings_p80"]
    assert point.lesion_free.endswith("in 80 % (n = 1)")
    labelled = calibrate(method.checkpoint, read_cohort(small_cohort).split("test"), Spec("validation"), "", Run())
    assert not labelled.lesion_free


def test_each_part_of_the_scans_may_have_a_checkpoint_of_its_own(method: Method, small_cohort: Path) -> None:
    rows, checkpoint = read_cohort(small_cohort).split("train"), method.checkpoint
    one, *others = rows
    parts = [(checkpoint, Cohort((one,), "a")), (checkpoint, Cohort(tuple(others), "b"))]
    together = calibrate(checkpoint, rows, Spec("p98"), "p", Run())
    assert replace(cross_calibrate(checkpoint, parts, Spec("p98"), "p", Run()), date=together.date) == together
    coarse = replace(checkpoint, preparation=replace(checkpoint.preparation, field_mm=260.0))
    other = cross_calibrate(checkpoint, [(coarse, parts[0][1]), parts[1]], Spec("p98"), "p", Run())
    assert other.threshold != together.threshold  # its scan was scored by the other checkpoint


def test_the_threshold_command_of_a_copied_checkpoint_keeps_its_weights(method: Method, tmp_path: Path) -> None:
    path = tmp_path / "h.safetensors"
    method.checkpoint.save(path)
    loaded = checkpoints.load(path)
    assert loaded.points == method.checkpoint.points
    assert loaded.digest == method.checkpoint.digest
    shutil.copy(path, tmp_path / "copy.safetensors")
    again = checkpoints.load(tmp_path / "copy.safetensors").with_point(replace(loaded.points[0], name="other"))
    assert [p.name for p in again.points] == ["p98", "other"]
    assert again.digest == loaded.digest


def test_the_segmentation_keeps_the_codes_too(tmp_path: Path) -> None:
    from uadtk import interface

    image, _, _ = small_brain()
    stored = nib.Nifti1Image(image, SMALL_AFFINE)
    stored.set_sform(SMALL_AFFINE, 4)
    stored.set_qform(SMALL_AFFINE, 2)
    nib.save(stored, tmp_path / "s.nii.gz")
    result = interface.open("scalespace", threads=1).segment(tmp_path / "s.nii.gz", point="p98")
    for path in result.save(tmp_path / "out").values():
        if path.name.endswith(".nii.gz"):
            header = nib.load(path).header
            assert (int(header["sform_code"]), int(header["qform_code"])) == (4, 2), path.name
    assert "notes" not in result.provenance["input"]
