"""A supervised student learns from an unsupervised teacher's masks of unlabelled scans (Baur et al., MIDL 2019).

In each round the teacher labels every scan (``pseudo_labels``), and a new student is trained on these labels and on
annotated scans, if any. With several rounds the student is the next teacher, at probability 0.5.

The files of round k are in ``<labels>/round-<k>``: masks, ``cohort.tsv`` (the student's training table) and, except in
the last round, ``student.safetensors``. An interrupted run resumes when the command is repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from uadtk import registry
from uadtk.checkpoint import Checkpoint
from uadtk.core.errors import DataError, UsageError
from uadtk.core.model import traits
from uadtk.core.run import Run
from uadtk.core.thresholder import OperatingPoint
from uadtk.io.cohort import Cohort, Row, read_cohort, read_row, refuse_copies
from uadtk.io.table import write_cohort
from uadtk.pipeline.point import check_point, uncalibrated
from uadtk.pipeline.score import build_method
from uadtk.preparation.lesion_free import lesion_of
from uadtk.training.once import deadline_after, train_once
from uadtk.training.pseudo_labels import Trust, label_cohort
from uadtk.training.slices import split_rows, train_rows
from uadtk.training.train import Schedule

HALF = "half"


@dataclass(frozen=True)
class Lessons:
    """Scans to be labelled by a teacher, and annotated ones; every row is of split ``train`` or ``validation``."""

    unlabelled: tuple[Row, ...]
    annotated: tuple[Row, ...]


def lessons(unlabelled: Cohort, labelled: Cohort | None, seed: int) -> Lessons:
    """Select the scans to train and to validate on.

    The student is validated on the annotated scans of split ``validation``, if there are any; else on unlabelled
    ones with the teacher's labels: those of split ``validation``, or a fifth of the subjects, as in any training. Rows
    of other splits, such as ``test``, are ignored, as are annotated ones without a lesion mask.

    Raises
    ------
    DataError
        A subject or a scan in both cohorts, a labelled scan or mask that cannot be used, or nothing to train on or to
        validate on.
    """
    annotated = _annotated(labelled, unlabelled) if labelled is not None else []
    validated = any(row.split == "validation" for row in annotated)
    taught, held = (train_rows(unlabelled), []) if validated else split_rows(unlabelled, seed)
    if not taught:
        raise DataError("no row with split 'train'", unlabelled.source, "Name the splits train, validation and test.")
    rows = (*(replace(row, split="train") for row in taught), *(replace(row, split="validation") for row in held))
    refuse_copies(Cohort((*rows, *annotated), unlabelled.source))
    return Lessons(rows, tuple(annotated))


def selfteach(
    teacher: Checkpoint,
    point: OperatingPoint,
    student: Checkpoint,
    learned: Lessons,
    trust: Trust,
    rounds: int,
    schedule: Schedule,
    labels: Path,
    output: Path,
    run: Run,
    minutes: float | None = None,
    cache: Path | None = None,
    overwrite: bool = False,
) -> Checkpoint:
    """Teach ``student`` (a checkpoint without weights) and save it to ``output``, with the operating point ``half``.

    Its training facts also record ``teacher`` (with its own teacher, if it was a student), ``teacher_point``,
    ``selfteach`` (round, trust, table of labels) and ``subjects``. Training pauses after ``minutes`` in total, as
    ``train`` does.

    Raises
    ------
    UsageError
        The student's model is not supervised, the point does not fit the teacher's scores, or ``labels`` holds those of
        another run and ``overwrite`` is false.
    DataError
        The teacher finds nothing.
    """
    _check_supervised(student)
    deadline = deadline_after(minutes)
    rows: Sequence[Row] = learned.unlabelled
    for number in range(1, rounds + 1):
        check_point(teacher, point)
        folder = labels / f"round-{number}"
        rows = label_cohort(rows, build_method(teacher, run), point, trust, folder, run, overwrite)
        write_cohort(folder / "cohort.tsv", [*rows, *learned.annotated])
        cohort = read_cohort(folder / "cohort.tsv")
        card = _card(teacher, point, trust, number, cohort)
        ready = replace(student, training=card, points=(_half(student),))
        goal = output if number == rounds else folder / "student.safetensors"
        taught = train_once(ready, cohort, schedule, goal, run, deadline, cache, overwrite)
        if not taught.training["finished"]:
            break
        teacher, point = taught, taught.point(HALF)
    return taught


def _annotated(labelled: Cohort, unlabelled: Cohort) -> list[Row]:
    """Rows with a lesion mask to train or validate on. Read now, so that a bad one is found before labelling."""
    shared = sorted({row.subject for row in unlabelled} & {row.subject for row in labelled})
    if shared:  # it could be trained on in one and tested on in the other
        raise DataError(
            f"subject '{shared[0]}' is in {unlabelled.source} too ({len(shared)} in both)",
            labelled.source,
            "Give each subject to one of the two cohorts.",
        )
    rows = [replace(row, split=row.split or "train") for row in labelled if row.lesion_mask]
    rows = [row for row in rows if row.split in ("train", "validation")]
    if not rows:
        raise DataError("no labelled scan to learn from", labelled.source, "Name lesion masks in column lesion_mask.")
    for row in rows:
        scan, _ = read_row(row, Run())
        lesion_of(row, scan, Run())
    return rows


def _check_supervised(student: Checkpoint) -> None:
    if not traits(registry.load("models", student.model)).supervised:
        raise UsageError(f"model '{student.model}' does not learn from labels", "--student", "Choose unet.")


def _half(student: Checkpoint) -> OperatingPoint:
    """Probability 0.5; not calibrated on any scan."""
    return uncalibrated(student, HALF, 0.5, "lesion as probable as not")


def _card(teacher: Checkpoint, point: OperatingPoint, trust: Trust, number: int, cohort: Cohort) -> dict[str, Any]:
    """Teacher, labels and subjects, as stored in the student's checkpoint."""
    before = {key: teacher.training[key] for key in ("teacher", "teacher_point") if key in teacher.training}
    own = [row for row in cohort if row.label_source]
    parts = {
        "pseudo": [row for row in own if row.split == "train"],
        "annotated": [row for row in cohort if row.split == "train" and not row.label_source],
        "validation": [row for row in cohort if row.split == "validation"],
    }
    return {
        "teacher": {"model": teacher.model, "digest": teacher.digest, "source": teacher.source, **before},
        "teacher_point": {"name": point.name, "threshold": point.threshold, "strategy": str(point.strategy)},
        "selfteach": {"round": number, **asdict(trust), "labels": cohort.source},
        "subjects": {name: sorted({row.subject for row in rows}) for name, rows in parts.items()},
    }
