"""Trainings in sequence, as of folds or rounds: a repeated command skips those that have finished."""

from __future__ import annotations

import json
import time
from pathlib import Path

from uadtk.checkpoint import Checkpoint, load
from uadtk.core.run import Run
from uadtk.io.cohort import Cohort
from uadtk.io.write import refuse_existing
from uadtk.training.resume import state_path
from uadtk.training.train import Schedule, settings_of, train


def train_once(
    checkpoint: Checkpoint,
    cohort: Cohort,
    schedule: Schedule,
    output: Path,
    run: Run,
    deadline: float | None,
    cache: Path | None,
    overwrite: bool,
) -> Checkpoint:
    """The checkpoint at ``output`` if this training has made it, else that of :func:`train`.

    ``deadline``: pause at this time of ``time.monotonic``. Raises UsageError if another training has made ``output``,
    and ``overwrite`` is false.
    """
    if found := _trained_before(output, checkpoint, schedule, cohort, overwrite):
        return found
    left = None if deadline is None else max(1e-6, (deadline - time.monotonic()) / 60)
    return train(checkpoint, cohort, schedule, output, run, left, cache)


def deadline_after(minutes: float | None) -> float | None:
    """The ``deadline`` of :func:`train_once`, in ``time.monotonic`` seconds; None: no limit."""
    return time.monotonic() + 60 * minutes if minutes else None


def _trained_before(
    goal: Path, fresh: Checkpoint, schedule: Schedule, cohort: Cohort, overwrite: bool
) -> Checkpoint | None:
    """The checkpoint at ``goal``, if the same training has made it; None if it is still to be made.

    Raises
    ------
    UsageError
        Another training has made it, and ``overwrite`` is false.
    """
    if not goal.exists() or state_path(goal).exists():
        return None
    facts = {**fresh.training, "schedule": settings_of(schedule), "cohort_digest": cohort.digest(), "finished": True}
    found = load(goal)
    same = {key: found.training.get(key) for key in facts} == json.loads(json.dumps(facts))
    asked, made = fresh.header(), found.header()
    if same and all(made[key] == asked[key] for key in ("model", "preparation", "scorer", "cleaners")):
        return found
    refuse_existing([goal], overwrite)
    return None
