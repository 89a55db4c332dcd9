"""A student of pseudo-labels: what it learns from, what its card says, rounds, going on after a kill, bad input."""

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
from uadtk.core.errors import DataError, UadtkError, UsageError
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.spec import Spec, parse_all
from uadtk.core.volume import Scan
from uadtk.io.cohort import Cohort, Row, read_cohort
from uadtk.kernels import roc_auc
from uadtk.pipeline.score import build_method, score_map
from uadtk.pipeline.threshold import calibrate
from uadtk.training import pseudo_labels as pseudo
from uadtk.training import selfteach as teaching
from uadtk.training import train as training
from uadtk.training.pseudo_labels import Trust
from uadtk.training.selfteach import Lessons, lessons, selfteach
from uadtk.training.train import Schedule


@pytest.fixture(autouse=True)
def short_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pass over the few slices of a test is an epoch."""
    monkeypatch.setattr("uadtk.training.batches.LEAST_STEPS", 1)


TRUST = Trust(band=0.001)
QUICK = Schedule(epochs=2, batch=8, learning_rate=1e-2)


def patient(folder: Path, seed: int, truth: bool) -> Row:
    """A scan with a lesion. Its mask, where it may not be read, is no image."""
    image, _, lesion = small_brain(seed, lesion=True)
    path, mask = folder / f"s{seed}.nii.gz", folder / f"s{seed}_lesion.nii.gz"
    nib.save(nib.Nifti1Image(image, SMALL_AFFINE), path)
    if truth:
        nib.save(nib.Nifti1Image(lesion.astype(np.uint8), SMALL_AFFINE), mask)
    else:
        mask.write_text("not for you")
    return Row(f"s{seed}", path, lesion_mask=mask)


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    folder = tmp_path_factory.mktemp("unlabelled")
    return Cohort(tuple(patient(folder, k, truth=False) for k in range(3)), "unlabelled.tsv")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    folder = tmp_path_factory.mktemp("labelled")
    splits = ["train", "validation", "test", None]
    rows = [replace(patient(folder, 5 + k, truth=True), split=split) for k, split in enumerate(splits)]
    return Cohort((*rows[:3], Row("s9", folder / "s5.nii.gz", split="train")), "labelled.tsv")


@pytest.fixture(scope="module")
def teacher(small_cohort: Path) -> checkpoints.Checkpoint:
    """Histogram equalisation with its p98 point on healthy scans."""
    bare = replace(
        checkpoints.new("histeq", {}, Preparation()), cleaners=parse_all(["erode:iterations=1", "median:size=3"])
    )
    return bare.with_point(calibrate(bare, read_cohort(small_cohort).split("train"), Spec("p98"), "", Run()))


def student(name: str = "unet") -> checkpoints.Checkpoint:
    options = {"width": 2, "depth": 2, "dropout": 0} if name == "unet" else {}
    return checkpoints.new(name, options, Preparation())


def teach(
    teacher: checkpoints.Checkpoint, learned: Lessons, folder: Path, rounds: int = 1, **settings: object
) -> checkpoints.Checkpoint:
    arguments = {"trust": TRUST, "schedule": QUICK, "labels": folder / "labels", "output": folder / "s.safetensors"}
    arguments |= {"student": student(), "run": Run(), **settings}
    return selfteach(teacher, teacher.points[0], learned=learned, rounds=rounds, **arguments)  # type: ignore[arg-type]


def subjects(rows: tuple[Row, ...]) -> dict[str, str | None]:
    return {row.subject: row.split for row in rows}


def test_without_labels_a_fifth_of_the_subjects_is_held_out(unlabelled: Cohort) -> None:
    learned = lessons(unlabelled, None, seed=0)
    assert sorted(subjects(learned.unlabelled)) == ["s0", "s1", "s2"]
    assert sorted(subjects(learned.unlabelled).values()) == ["train", "train", "validation"]
    assert learned.annotated == ()


def test_the_table_says_what_is_held_out_and_what_is_not_looked_at(unlabelled: Cohort) -> None:
    splits = ["validation", "test", "train"]
    rows = tuple(replace(row, split=split) for row, split in zip(unlabelled, splits, strict=True))
    learned = lessons(Cohort(rows, ""), None, seed=0)
    assert subjects(learned.unlabelled) == {"s2": "train", "s0": "validation"}


def test_annotated_scans_validate_where_there_are_some(unlabelled: Cohort, labelled: Cohort) -> None:
    """Then all unlabelled scans are learned from; a test scan and a scan without a mask are not looked at."""
    learned = lessons(unlabelled, labelled, seed=0)
    assert subjects(learned.unlabelled) == dict.fromkeys(["s0", "s1", "s2"], "train")
    assert subjects(learned.annotated) == {"s5": "train", "s6": "validation"}
    without = Cohort(tuple(replace(row, split=None) for row in labelled), "")
    assert sorted(subjects(lessons(unlabelled, without, seed=0).unlabelled).values()) == [
        "train",
        "train",
        "validation",
    ]


def test_cohorts_that_share_a_subject_are_refused(unlabelled: Cohort, labelled: Cohort) -> None:
    """Of split test too: a student must not be tested on what it has seen."""
    both = Cohort((*labelled.rows[:2], replace(labelled.rows[2], subject="s1")), "labelled.tsv")
    with pytest.raises(DataError, match=r"labelled.tsv: subject 's1' is in unlabelled.tsv too \(1 in both\)"):
        lessons(unlabelled, both, seed=0)


def test_a_labelled_mask_on_another_grid_is_refused_before_any_work(
    unlabelled: Cohort, labelled: Cohort, tmp_path: Path
) -> None:
    mask = tmp_path / "small.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), SMALL_AFFINE), mask)
    bad = Cohort((replace(labelled.rows[0], lesion_mask=mask),), "labelled.tsv")
    with pytest.raises(DataError, match=r"small.nii.gz: the mask's grid .* is not the scan's"):
        lessons(unlabelled, bad, seed=0)


def test_a_labelled_cohort_without_labels_is_refused(unlabelled: Cohort, labelled: Cohort) -> None:
    with pytest.raises(DataError, match=r"labelled.tsv: no labelled scan to learn from"):
        lessons(unlabelled, Cohort(labelled.rows[2:], "labelled.tsv"), seed=0)


def test_a_student_learns_from_the_teacher_alone_and_its_card_says_so(
    teacher: checkpoints.Checkpoint, unlabelled: Cohort, tmp_path: Path
) -> None:
    """The true masks of the cohort are no images, so that reading one would fail."""
    said: list[str] = []
    taught = teach(teacher, lessons(unlabelled, None, 0), tmp_path, run=Run(say=said.append))
    assert not any("failed" in line for line in said)
    facts = checkpoints.load(tmp_path / "s.safetensors").training
    table = read_cohort(tmp_path / "labels" / "round-1" / "cohort.tsv")
    assert facts["teacher"] == {"model": "histeq", "digest": teacher.digest, "source": "histeq"}
    point = teacher.points[0]
    assert facts["teacher_point"] == {"name": "p98", "threshold": point.threshold, "strategy": "p98"}
    assert facts["selfteach"]["round"] == 1
    assert facts["selfteach"]["band"] == 0.001
    assert sorted([*facts["subjects"]["pseudo"], *facts["subjects"]["validation"]]) == ["s0", "s1", "s2"]
    assert facts["subjects"]["annotated"] == []
    assert facts["cohort_digest"] == table.digest()
    assert facts["scans"] == {"train": 2, "validation": 1}
    assert {row.label_source for row in table} == {f"teacher-{teacher.digest[:12]}"}
    assert taught.point(None).name == "half"
    assert taught.point(None).threshold == 0.5


def test_annotated_scans_are_learned_beside_the_teachers(
    teacher: checkpoints.Checkpoint, unlabelled: Cohort, labelled: Cohort, tmp_path: Path
) -> None:
    taught = teach(teacher, lessons(unlabelled, labelled, 0), tmp_path)
    assert taught.training["subjects"] == {"pseudo": ["s0", "s1", "s2"], "annotated": ["s5"], "validation": ["s6"]}
    table = {row.subject: row for row in read_cohort(tmp_path / "labels" / "round-1" / "cohort.tsv")}
    assert table["s5"].lesion_mask == labelled.rows[0].lesion_mask
    assert table["s5"].label_source is None


@pytest.mark.slow
def test_a_student_finds_what_its_teacher_marked(
    teacher: checkpoints.Checkpoint, unlabelled: Cohort, tmp_path: Path
) -> None:
    """In a scan that neither has seen: a lesion voxel is more probably one than nearly all others of the brain."""
    bare = replace(student(), cleaners=())
    taught = teach(
        teacher,
        lessons(unlabelled, None, 0),
        tmp_path,
        student=replace(bare, options={**bare.options, "width": 4}),
        schedule=replace(QUICK, epochs=15, patience=15, augment=False),
    )
    image, _, lesion = small_brain(11, lesion=True)
    scoring = score_map(Scan(image, SMALL_AFFINE), build_method(taught, Run()), Run())
    score, brain = scoring.score.voxels, scoring.brain.voxels
    assert roc_auc(score[brain], lesion[brain]) > 0.98


def test_in_a_second_round_the_student_teaches(
    teacher: checkpoints.Checkpoint, unlabelled: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A student that calls nothing a lesion after two epochs is given a low threshold here, so that it can teach."""
    half = teaching._half
    monkeypatch.setattr(teaching, "_half", lambda fresh: replace(half(fresh), threshold=1e-4))
    taught = teach(teacher, lessons(unlabelled, None, 0), tmp_path, rounds=2)
    first = checkpoints.load(tmp_path / "labels" / "round-1" / "student.safetensors")
    told = taught.training["teacher"]
    assert (told["model"], told["digest"]) == ("unet", first.digest)
    assert told["teacher"]["model"] == "histeq"
    assert taught.training["teacher_point"]["name"] == "half"
    record = json.loads((tmp_path / "labels" / "round-2" / "s0_labels.json").read_text())
    assert record["teacher"] == {"model": "unet", "digest": first.digest}
    assert first.training["selfteach"]["round"] == 1
    assert taught.training["selfteach"]["round"] == 2


@pytest.mark.slow
def test_a_killed_command_goes_on_and_ends_as_an_undisturbed_one(
    teacher: checkpoints.Checkpoint, unlabelled: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the second epoch of either round; no scan is labelled twice and no round is trained twice."""
    half, learned, folder = teaching._half, lessons(unlabelled, None, 0), tmp_path / "killed"
    monkeypatch.setattr(teaching, "_half", lambda fresh: replace(half(fresh), threshold=1e-4))
    whole = teach(teacher, learned, tmp_path / "whole", rounds=2)
    real_epoch, real_segment, epochs, labelled = training._train_epoch, pseudo.segment, [], []

    def dying(*given: Any) -> object:
        epochs.append(given[4])
        if len(epochs) in (2, 5):
            raise KeyboardInterrupt
        return real_epoch(*given)

    monkeypatch.setattr(training, "_train_epoch", dying)
    monkeypatch.setattr(pseudo, "segment", lambda *given: labelled.append(1) or real_segment(*given))
    for second in (False, True):
        with pytest.raises(KeyboardInterrupt):
            teach(teacher, learned, folder, rounds=2)
        assert (folder / "labels" / "round-2").exists() == second
    done = teach(teacher, learned, folder, rounds=2)
    assert epochs == [1, 2, 2, 1, 2, 2]
    assert len(labelled) == 6
    assert done.weights == whole.weights


def test_a_command_that_is_paused_in_the_first_round_says_so(
    teacher: checkpoints.Checkpoint, unlabelled: Cohort, tmp_path: Path
) -> None:
    part = teach(teacher, lessons(unlabelled, None, 0), tmp_path, rounds=2, minutes=1e-9)
    assert not part.training["finished"]
    assert part.training["selfteach"]["round"] == 1
    assert not (tmp_path / "s.safetensors").exists()


@pytest.mark.slow
def test_the_first_students_of_another_schedule_are_refused(
    teacher: checkpoints.Checkpoint, unlabelled: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = teaching._half
    monkeypatch.setattr(teaching, "_half", lambda fresh: replace(half(fresh), threshold=1e-4))
    learned = lessons(unlabelled, None, 0)
    teach(teacher, learned, tmp_path, rounds=2)
    with pytest.raises(UsageError, match=r"round-1/student.safetensors: output exists"):
        teach(teacher, learned, tmp_path, rounds=2, schedule=replace(QUICK, seed=1))


@pytest.mark.parametrize(
    ("name", "points", "error", "words"),
    [
        ("scalespace", True, UsageError, "--student: model 'scalespace' does not learn from labels. Choose unet."),
        ("unet", False, UsageError, "has no operating point"),
    ],
)
def test_a_wrong_student_or_teacher_is_refused_before_any_work(
    teacher: checkpoints.Checkpoint,
    unlabelled: Cohort,
    tmp_path: Path,
    name: str,
    points: bool,
    error: type[UadtkError],
    words: str,
) -> None:
    pointless = teacher if points else replace(teacher, points=())
    with pytest.raises(error, match=words):
        selfteach(
            pointless,
            pointless.point(None),
            student(name),
            lessons(unlabelled, None, 0),
            TRUST,
            1,
            QUICK,
            tmp_path / "labels",
            tmp_path / "s.safetensors",
            Run(),
        )
    assert not list(tmp_path.iterdir())
