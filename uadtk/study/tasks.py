"""Plan the rows of a benchmark: checkpoint, scorer, cleaners, scans and operating point of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from uadtk import registry
from uadtk.checkpoint import Checkpoint, open_checkpoint
from uadtk.core.errors import DataError, UsageError
from uadtk.core.run import Run
from uadtk.core.spec import Spec, parse_all
from uadtk.core.thresholder import OperatingPoint
from uadtk.core.volume import Grid
from uadtk.io.cohort import NAME_MASKS, Cohort, refuse_copies
from uadtk.io.memo import digest_of
from uadtk.pipeline.evaluate import bare_of, calibration_rows
from uadtk.pipeline.point import check_point
from uadtk.pipeline.score import build_method
from uadtk.pipeline.threshold import ready
from uadtk.study.receipt import Calibration, PointRule, chosen_rows, in_collection, key_of


@dataclass(frozen=True)
class Contender:
    """A shipped model or a checkpoint file, and the scorers to use with it; empty: those of the question."""

    source: str
    scorers: tuple[Spec, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Contender:
        """``vae.safetensors@residual@restoration:steps=100``."""
        source, *scorers = [text] if Path(text).is_file() else text.split("@")
        return cls(source, parse_all(scorers))


@dataclass(frozen=True)
class Question:
    """What to compare. Empty scorers or chains of cleaners: each checkpoint's own. Empty collections: all of them.

    ``point``: operating point of every checkpoint; None: its only one, ``p98`` if it has several, or no point. With a
    ``strategy`` every row is calibrated by it instead, on split ``calibration``: the scans of the row's own collection,
    or the whole split if there are none; with ``calibrate_on``, all rows on that collection, as in the study, which
    carries one point to every set. Collection ``ms+wmh`` pools the two.
    """

    contenders: tuple[Contender, ...]
    scorers: tuple[Spec, ...] = ()
    chains: tuple[tuple[Spec, ...], ...] = ()
    collections: tuple[str, ...] = ()
    split: str = ""
    point: str | None = None
    strategy: Spec | None = None
    calibration: str = "validation"
    grid: Grid = "native"
    calibrate_on: str = ""


@dataclass(frozen=True)
class Task:
    """One row to measure.

    ``source``: where its checkpoint is found. ``beside``: digest of its baseline, '' if it is one. ``problem``: the
    reason why the row is impossible, such as a scorer that the model cannot serve; it then has no digest.
    """

    collection: str
    model: str
    source: str
    key: dict[str, Any]
    scorer: Spec
    cleaners: tuple[Spec, ...]
    rows: Cohort
    rule: PointRule = None
    beside: str = ""
    problem: str = ""

    @property
    def digest(self) -> str:
        return "" if self.problem else digest_of(self.key)


def plan(question: Question, table: Cohort, run: Run) -> list[Task]:
    """All rows, by collection, baselines first. Nothing is scored, but every mistake in the question is found.

    ``histeq`` with the preparation and cleaners of a model is its baseline, with a point of the same strategy and
    scans; models that agree in these share it. A point that does not fit a row's scores is calibrated again, by its
    strategy on its own scans, if ``table`` or a split of it is these scans; else the row has none.

    Raises
    ------
    UsageError
        No such model, scorer, cleaner, option or operating point.
    CheckpointError, PluginError
        A checkpoint cannot be used.
    DataError
        No such split or collection, or not one lesion mask.
    """
    for scorer in question.scorers:
        registry.options_of("scorers", scorer)
    for cleaner in dict.fromkeys(spec for chain in question.chains for spec in chain):
        registry.options_of("cleaners", cleaner)
    groups = _groups(question, table, run)
    unique: dict[tuple[str, str], Task] = {}
    for contender in question.contenders:
        for task in _tasks(contender, question, table, groups, run):
            method = " ".join(map(str, (task.model, task.scorer, *task.cleaners)))
            unique.setdefault((task.collection, task.digest or method), task)
    baselines = Counter(task.collection for task in unique.values() if not task.beside)
    tasks = [
        task if task.beside or baselines[task.collection] > 1 else replace(task, model="histeq")
        for task in unique.values()
    ]
    order = list(groups)
    return sorted(tasks, key=lambda task: (order.index(task.collection), bool(task.beside)))


def _groups(question: Question, table: Cohort, run: Run) -> dict[str, Cohort]:
    """The scans of each collection."""
    refuse_copies(table, across_splits=True)
    rows = chosen_rows(table, question.split, "")
    if not any(row.lesion_mask for row in rows):
        raise DataError("no scan has a lesion mask: there is nothing to compare", table.source, NAME_MASKS)
    named = tuple(dict.fromkeys(row.collection for row in rows if row.collection))
    if not question.collections and named and (others := sum(not row.collection for row in rows)):
        run.say(f"{others} scans of no collection are left out")
    names = question.collections or named or ("",)
    groups = {name: chosen_rows(rows, "", name) for name in names}
    for own in groups.values():
        refuse_copies(own)
    return groups


def _tasks(
    contender: Contender, question: Question, table: Cohort, groups: dict[str, Cohort], run: Run
) -> Iterator[Task]:
    """The rows of one checkpoint: for each chain of cleaners its baselines, then each scorer."""
    source = contender.source
    found = open_checkpoint(source)
    place = str(Path(source).resolve()) if Path(source).is_file() else source
    point = None if question.strategy or not (question.point or found.points) else found.point(question.point)
    again = _calibrations(question, point, table, groups)
    if point is not None and None in again.values():
        run.say(f"histeq has no operating point: the cohort lacks the scans on which '{point.name}' was calibrated")
    for chain in question.chains or (found.cleaners,):
        own = replace(found, cleaners=chain)
        bare = bare_of(own)
        baselines = {}
        for name, rows in groups.items():
            key = key_of(bare, rows, again[name], question.grid, run)
            baselines[name] = digest_of(key)
            yield Task(name, f"histeq as {Path(source).stem}", "histeq", key, bare.scorer, chain, rows, again[name])
        for spec in contender.scorers or question.scorers or (own.scorer,):
            checkpoint = replace(own, scorer=spec)
            problem, fits = _checked(checkpoint, point, run)
            if not fits and None in again.values():
                asked = " ".join(map(str, (spec, *chain)))
                run.say(f"{source} {asked}: no operating point: '{point and point.name}' is for other scores")
            for name, rows in groups.items():
                rule = point if fits and not question.strategy else again[name]
                key = key_of(checkpoint, rows, rule, question.grid, run)
                yield Task(name, source, place, key, spec, chain, rows, rule, baselines[name], problem)


def _calibrations(
    question: Question, point: OperatingPoint | None, table: Cohort, groups: dict[str, Cohort]
) -> dict[str, Calibration | None]:
    """For each collection, how a row finds a point of its own: by the strategy asked for, or as ``point`` was found."""
    if question.strategy is None:
        rows = None if point is None else calibration_rows(table, point)
        found = None if point is None or rows is None else Calibration(point.strategy, point.name, rows)
        return dict.fromkeys(groups, found)
    split = table.split(question.calibration)
    if question.calibrate_on:
        own = dict.fromkeys(groups, chosen_rows(split, "", question.calibrate_on))
    else:
        own = {group: in_collection(split, group) or split for group in groups}
    for rows in own.values():
        ready(question.strategy, rows)
    return {group: Calibration(question.strategy, question.strategy.name, rows) for group, rows in own.items()}


def _checked(checkpoint: Checkpoint, point: OperatingPoint | None, run: Run) -> tuple[str, bool]:
    """The reason why the row is impossible ('' if it is not), and whether ``point`` fits its scores.

    Builds the model: one that is broken is found before the work.
    """
    try:
        build_method(checkpoint, run)
    except UsageError as error:
        return error.one_line(), True
    if point is None:
        return "", True
    try:
        check_point(checkpoint, point)
    except UsageError:
        return "", False
    return "", True
