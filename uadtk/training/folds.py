"""Cross-fitting: one training for each fold of the subjects, without that fold, and all of them as one ensemble.

The members, their logs and curves stay in ``<output>.folds/``. A repeated command trains what is missing there, so an
interrupted one resumes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from uadtk.checkpoint import Checkpoint
from uadtk.core.errors import DataError
from uadtk.core.run import Run
from uadtk.io.cohort import Cohort, Row
from uadtk.pipeline.ensemble import ensemble_of
from uadtk.pipeline.run import leads
from uadtk.training.once import deadline_after, train_once
from uadtk.training.parallel import joined
from uadtk.training.slices import train_rows
from uadtk.training.train import Schedule

By = Literal["subject", "site", "collection"]


@dataclass(frozen=True)
class Folds:
    """Number of folds, and the column whose values are kept together: ``subject``, or a coarser one."""

    count: int
    by: By = "subject"


def train_folds(
    checkpoint: Checkpoint,
    cohort: Cohort,
    schedule: Schedule,
    folds: Folds,
    output: Path,
    run: Run,
    minutes: float | None = None,
    cache: Path | None = None,
    overwrite: bool = False,
) -> Checkpoint:
    """Train a member without each fold, and save their ensemble to ``output``; arguments as of :func:`train`.

    If ``minutes`` are over before the last, nothing is saved to ``output``, and the paused member is returned.

    Raises
    ------
    DataError
        There are fewer subjects (sites, collections) than folds, or a subject is in two of them.
    UsageError
        The folder of the members holds those of another training and ``overwrite`` is false.
    """
    deadline = deadline_after(minutes)
    held, members = fold_subjects(cohort, folds, schedule.seed), list[Checkpoint]()
    folder = output.with_name(output.name + ".folds")
    with joined(run):
        for number, without in enumerate(held, 1):
            run.say(f"fold {number} of {len(held)}: without {len(without)} of {sum(map(len, held))} subjects")
            part = Cohort(tuple(row for row in cohort if _bare(row) not in without), cohort.source)
            goal = folder / f"{number}.safetensors"
            member = train_once(checkpoint, part, schedule, goal, run, deadline, cache, overwrite)
            if not member.training["finished"]:
                return member
            members.append(member)
    ensemble = ensemble_of(members, held, folds.by)
    if leads():
        ensemble.save(output)
    return ensemble


def fold_subjects(cohort: Cohort, folds: Folds, seed: int) -> list[list[str]]:
    """The subjects of each fold, sorted and without ``sub-``.

    Folds are of nearly equal size, as far as sites or collections allow that. Only the split ``train`` is divided, if
    there are splits: a fixed validation set serves all members.
    """
    together: dict[str, set[str]] = defaultdict(set)
    for row in train_rows(cohort):
        together[_value(row, folds.by, cohort)].add(_bare(row))
    if len(together) < folds.count:
        what = f"{len(together)} {folds.by}{'s' if len(together) != 1 else ''} cannot be split into {folds.count} folds"
        raise DataError(what, cohort.source, f"Give --folds {len(together)} or less, or another --fold-by.")
    often = Counter(subject for subjects in together.values() for subject in subjects)
    if twice := [subject for subject, times in often.items() if times > 1]:
        what = f"subject '{twice[0]}' is in two {folds.by}s: it would be both held out and trained on"
        raise DataError(what, cohort.source, "Fold by subject, or leave one of its scans out.")
    names = sorted(together)
    shuffled = [names[place] for place in np.random.default_rng(seed).permutation(len(names))]
    found: list[list[str]] = [[] for _ in range(folds.count)]
    for name in sorted(shuffled, key=lambda name: -len(together[name])):  # the largest first, into the smallest fold
        min(found, key=len).extend(together[name])
    return [sorted(subjects) for subjects in found]


def _bare(row: Row) -> str:
    return row.subject.removeprefix("sub-")


def _value(row: Row, column: str, cohort: Cohort) -> str:
    value: str | None = _bare(row) if column == "subject" else getattr(row, column)
    if not value:
        raise DataError(f"subject '{row.subject}' has no {column}", cohort.source, f"Fill the column '{column}'.")
    return value
