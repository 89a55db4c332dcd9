"""A teacher's labels: on the scan's grid, with what is doubted left out, made once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.scans import SMALL_AFFINE, small_brain
from uadtk import checkpoint as checkpoints
from uadtk.core.errors import DataError, UsageError
from uadtk.core.finding import Finding, Scoring, Segmentation
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.spec import Spec
from uadtk.core.thresholder import OperatingPoint
from uadtk.core.volume import Mask, Scan, ScoreMap, Volume
from uadtk.io.cohort import Row, read_cohort
from uadtk.io.read import read_mask, read_scan
from uadtk.pipeline.score import Method, build_method
from uadtk.pipeline.segment import segment
from uadtk.training import pseudo_labels as pseudo
from uadtk.training.pseudo_labels import Trust, believed, label_cohort, mirror

ALL = Trust()
POINT = OperatingPoint("t", 0.98, Spec("p98"), "", Spec("residual"), (Spec.parse("erode:iterations=1"),), 0, "", "")


@pytest.fixture(scope="module")
def teacher() -> Method:
    """How bright a voxel is in its own brain: no training, so the test is about the labels."""
    bare = checkpoints.new("histeq", {}, Preparation())
    point = replace(POINT, scorer=bare.scorer)
    return build_method(replace(bare, cleaners=point.cleaners, points=(point,)), Run())


@pytest.fixture
def patients(tmp_path: Path) -> list[Row]:
    """Three scans with a lesion each, and true masks that nobody may read: they are not even images."""
    for k in range(3):
        nib.save(nib.Nifti1Image(small_brain(k, lesion=True)[0], SMALL_AFFINE), tmp_path / f"s{k}.nii.gz")
    truth = tmp_path / "truth.nii.gz"
    truth.write_text("not for you")
    return [
        Row(f"s{k}", tmp_path / f"s{k}.nii.gz", lesion_mask=truth, lesion_free_slices=(1, 2), split="train")
        for k in range(3)
    ]


def label(rows: list[Row], teacher: Method, folder: Path, trust: Trust = ALL, overwrite: bool = False) -> list[Row]:
    return label_cohort(rows, teacher, teacher.checkpoint.points[0], trust, folder, Run(), overwrite)


def line(*scores: float) -> Segmentation:
    """A scan of one row of voxels with these scores; threshold 1, every run of voxels above it is a component."""
    score = np.array(scores, np.float32)[:, None, None]
    components = np.zeros(score.shape, np.int32)
    findings: list[Finding] = []
    for x, value in enumerate(scores):
        if value > 1:
            components[x] = components[x - 1, 0, 0] if x and scores[x - 1] > 1 else components.max() + 1
    for k in range(1, components.max() + 1):
        inside = score[components == k]
        findings.append(
            Finding(k, 0.001 * len(inside), (0, 0, 0), float(inside.max()), float(inside.mean()), (0, 0, 0))
        )
    brain = Mask(np.ones(score.shape, bool), np.eye(4))
    scoring = Scoring(Scan(score, np.eye(4)), brain, "given", ScoreMap(score, np.eye(4)), {})
    point = replace(POINT, threshold=1.0)
    return Segmentation(scoring, point, Mask(score > 1, np.eye(4)), Volume(components, np.eye(4)), tuple(findings))


def flat(masks: tuple[Mask, Mask]) -> list[str]:
    """The row in one word: L lesion, ? ignored, . normal."""
    lesion, ignored = (mask.voxels.ravel() for mask in masks)
    assert not (lesion & ignored).any()
    return ["L" if a else "?" if b else "." for a, b in zip(lesion, ignored, strict=True)]


def test_by_default_a_teacher_is_believed_to_the_letter() -> None:
    assert flat(believed(line(0, 0.99, 1.01, 3, 1), Trust())) == list("..LL.")


def test_the_band_ignores_what_is_nearer_to_the_threshold_than_its_share_on_either_side() -> None:
    """Threshold 1, band 0.25: the scores between 0.75 and 1.25, which are exact in binary and not in the band."""
    found = line(0, 0.75, 0.76, 1, 1.24, 1.25, 2)
    assert flat(believed(found, Trust(band=0.25))) == list("..???LL")


def test_a_component_is_judged_by_its_mean_score() -> None:
    """Means 1.5 and 3: of a confidence of 2 the first is ignored whole, its peak of 1.8 included."""
    assert flat(believed(line(1.2, 1.8, 0, 3, 3), Trust(confident=2))) == list("??.LL")
    assert flat(believed(line(1.2, 1.8, 0, 3, 3), Trust(confident=1.49))) == list("LL.LL")


def test_a_component_that_the_mirrored_scan_does_not_show_is_ignored() -> None:
    """Found again are half of the first component, none of the second, and a voxel that was none."""
    again = np.array([1, 0, 1, 0, 0], bool)[:, None, None]
    found = line(2, 2, 0, 2, 2)
    assert flat(believed(found, Trust(mirrored=0.5), again)) == list("LL.??")
    assert flat(believed(found, Trust(mirrored=0.51), again)) == list("??.??")


@pytest.mark.parametrize("codes", ["RAS", "LPI", "PIR", "SLA"])
def test_mirroring_exchanges_left_and_right_however_a_scan_is_stored(codes: str) -> None:
    axis = next(i for i, code in enumerate(codes) if code in "LR")
    to = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes))
    affine = nib.orientations.inv_ornt_aff(to, (2, 3, 4))
    assert "".join(nib.aff2axcodes(affine)) == codes
    voxels = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(mirror(voxels, affine), np.flip(voxels, axis))


def test_a_teacher_that_sees_no_sides_finds_the_same_in_the_mirrored_scan(teacher: Method) -> None:
    """Histogram equalisation does not mind a mirror, but for its slices, whose pixels lie a quarter off centre here."""
    image = small_brain(0, lesion=True)[0]
    found = segment(Scan(image, SMALL_AFFINE), teacher, teacher.checkpoint.points[0], Run())
    again = pseudo._found_mirrored(found, teacher, pseudo.Rules(8), Run())
    overlap = 2 * (again & found.mask.voxels).sum() / (again.sum() + found.mask.voxels.sum())
    assert found.mask.voxels.any()
    assert overlap > 0.9


def test_labels_are_what_segment_finds_on_the_scans_own_grid(
    teacher: Method, patients: list[Row], tmp_path: Path
) -> None:
    rows = label(patients, teacher, tmp_path / "labels", Trust(band=0.01))
    assert [row.subject for row in rows] == ["s0", "s1", "s2"]
    for row in rows:
        scan = read_scan(row.image)
        found = segment(scan, teacher, teacher.checkpoint.points[0], Run())
        lesion, ignored = believed(found, Trust(band=0.01))
        assert lesion.voxels.any()
        np.testing.assert_array_equal(read_mask(row.lesion_mask, like=scan).voxels, lesion.voxels)
        np.testing.assert_array_equal(read_mask(row.ignore_mask, like=scan).voxels, ignored.voxels)
        np.testing.assert_array_equal(read_mask(row.brain_mask, like=scan).voxels, found.scoring.brain.voxels)
        assert row.lesion_mask.name == f"{row.subject}_label-lesion_mask.nii.gz"
        assert row.ignore_mask.name == f"{row.subject}_desc-ignore_mask.nii.gz"
        assert row.label_source == f"teacher-{teacher.checkpoint.digest[:12]}"
        assert row.lesion_free_slices is None


def test_labels_that_are_there_are_not_made_again(
    teacher: Method, patients: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after two scans; then the first is corrected by hand, which outlives the second run, and one is lost."""
    folder, seen, real = tmp_path / "labels", [], pseudo.segment

    def counted(scan: Scan, *rest: Any) -> Segmentation:
        seen.append(scan)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return real(scan, *rest)

    monkeypatch.setattr(pseudo, "segment", counted)
    with pytest.raises(KeyboardInterrupt):
        label(patients, teacher, folder)
    mask = folder / "s0_label-lesion_mask.nii.gz"
    corrected = small_brain(0)[1].astype(np.uint8)
    nib.save(nib.Nifti1Image(corrected, SMALL_AFFINE), mask)
    (folder / "s1_desc-ignore_mask.nii.gz").unlink()
    assert len(label(patients, teacher, folder)) == 3
    assert len(seen) == 5  # the second and the third
    np.testing.assert_array_equal(np.asarray(nib.load(mask).dataobj), corrected)


def test_labels_of_another_recipe_are_refused_or_replaced(teacher: Method, patients: list[Row], tmp_path: Path) -> None:
    label(patients, teacher, tmp_path / "labels")
    with pytest.raises(UsageError, match="labels of another teacher, threshold or scan are here"):
        label(patients, teacher, tmp_path / "labels", Trust(band=0.01))
    label(patients, teacher, tmp_path / "labels", Trust(band=0.01), overwrite=True)
    record = json.loads((tmp_path / "labels" / "s0_labels.json").read_text())
    assert record["trust"] == {"min_voxels": 8, "band": 0.01, "confident": 1.0, "mirrored": 0.0}
    assert record["ignored_voxels"] > 0


def test_a_scan_that_cannot_be_read_costs_one_line(teacher: Method, patients: list[Row], tmp_path: Path) -> None:
    patients[1].image.write_bytes(b"no image")
    said: list[str] = []
    point = teacher.checkpoint.points[0]
    rows = label_cohort(patients, teacher, point, Trust(), tmp_path / "labels", Run(say=said.append))
    assert [row.subject for row in rows] == ["s0", "s2"]
    assert len(said) == 1
    assert said[0].startswith("s1: failed: ")
    assert "s1.nii.gz" in said[0]


def test_a_scan_that_changes_after_its_digest_costs_one_line(
    teacher: Method, patients: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, said = pseudo.segment, list[str]()

    def changing(*arguments: Any) -> Segmentation:
        nib.save(nib.Nifti1Image(small_brain(7, lesion=True)[0], SMALL_AFFINE), patients[1].image)
        return real(*arguments)

    monkeypatch.setattr(pseudo, "segment", changing)
    point = teacher.checkpoint.points[0]
    rows = label_cohort(patients, teacher, point, Trust(), tmp_path / "labels", Run(say=said.append))
    assert [row.subject for row in rows] == ["s0", "s2"]
    assert [line for line in said if line.startswith("s1: failed: ") and "changed since" in line]
    assert not (tmp_path / "labels" / "s1_labels.json").exists()


def test_a_teacher_that_finds_nothing_teaches_nothing(teacher: Method, patients: list[Row], tmp_path: Path) -> None:
    blind = replace(teacher.checkpoint.points[0], threshold=2.0)
    with pytest.raises(DataError, match=r"the teacher finds nothing to learn in 3 scans \(point 't'\)"):
        label_cohort(patients, teacher, blind, Trust(), tmp_path / "a", Run())
    held = [replace(row, split="validation") for row in patients]  # found, but nothing to train on
    with pytest.raises(DataError, match="finds nothing"):
        label(held, teacher, tmp_path / "b")


def test_a_cohort_that_is_written_is_read_as_it_was(patients: list[Row], tmp_path: Path) -> None:
    from uadtk.io.table import write_cohort

    path = tmp_path / "cohort.tsv"
    rows = [replace(patients[0], ignore_mask=Path("/elsewhere/i.nii.gz")), replace(patients[1], site="A")]
    write_cohort(path, rows)
    assert list(read_cohort(path)) == rows
    assert path.read_text().splitlines()[0].split("\t") == [
        "subject", "image", "lesion_mask", "site", "split", "lesion_free_slices", "ignore_mask",
    ]  # fmt: skip
    assert path.read_text().splitlines()[1].split("\t")[1] == "s0.nii.gz"
