"""A grid of checkpoints x scorers x collections on one cohort, each beside no learning, one row at a time.

Every row is evaluated on its own (``uadtk.pipeline.evaluate``) and becomes a receipt (``uadtk.study.receipt``); what
has an equal receipt is not done again. Memory holds one checkpoint and one scan, and the receipts' figures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from uadtk.checkpoint import Checkpoint, new, open_checkpoint
from uadtk.core import options as opts
from uadtk.core.errors import DataError, UadtkError, UsageError
from uadtk.core.finding import Scoring
from uadtk.core.run import Run
from uadtk.core.thresholder import OperatingPoint
from uadtk.core.volume import Mask
from uadtk.io.cohort import Cohort, Row
from uadtk.io.write import write_bytes
from uadtk.metrics.compare import Pair, all_pairs, compare
from uadtk.metrics.multiverse import Multiverse
from uadtk.metrics.study import by_patient
from uadtk.pipeline.evaluate import NAME_MASKS, Grid, calibration_rows
from uadtk.pipeline.point import check_point
from uadtk.pipeline.score import build_method, from_spec
from uadtk.pipeline.threshold import calibrate, ready
from uadtk.report.mosaic_strips import Case, case, head, strip
from uadtk.report.table import PAIRED, Line, labels
from uadtk.study import receipt as receipts
from uadtk.study.multiverse import multiverse
from uadtk.study.receipt import Calibration, PointRule

SHOWN = 4  # scans in the mosaic of a collection


@dataclass(frozen=True)
class Asked:
    """What to compare. No scorers, no chains of cleaners: each checkpoint's own. No collections: all there are.

    A model may bring its own scorers: ``vae.safetensors@residual@restoration``.
    ``point`` names the operating point of every checkpoint; None is its only one, or ``p98``, or none if it has none.
    With a ``strategy`` every row gets a point by it instead, from the split ``calibration``: the scans of the row's own
    collection, or all of the split where it has none of them. A collection ``ms+wmh`` is both together.
    """

    models: tuple[str, ...]
    scorers: tuple[str, ...] = ()
    chains: tuple[tuple[str, ...], ...] = ()
    collections: tuple[str, ...] = ()
    split: str = ""
    point: str | None = None
    strategy: str = ""
    calibration: str = "validation"
    grid: Grid = "native"


@dataclass(frozen=True)
class Task:
    """One row to come. ``source``: where its checkpoint is found; ``beside``: its baseline's digest, '' if it is one.

    ``problem``: why it cannot be, such as a scorer that the model cannot serve; it then has no digest.
    """

    collection: str
    model: str
    source: str
    key: dict[str, Any]
    rows: Cohort
    rule: PointRule = None
    beside: str = ""
    problem: str = ""

    @property
    def digest(self) -> str:
        return "" if self.problem else receipts.digest_of(self.key)


def plan(asked: Asked, table: Cohort, run: Run) -> list[Task]:
    """All rows, by collection, baselines first. Nothing is scored, but everything that is wrong with the grid is said.

    ``histeq`` with the preparation and cleaners of a model is its baseline, with a point of the same strategy and
    scans; models that agree in these share it. A point that does not fit a row's scores is calibrated anew, by its
    strategy on its own scans, if ``table`` or a split of it is these scans; else the row goes without.

    Raises
    ------
    UsageError
        No such model, scorer, cleaner, option or operating point.
    CheckpointError, PluginError
        A checkpoint cannot be used.
    DataError
        No such split or collection, or not one lesion mask.
    """
    for spec in asked.scorers:
        from_spec("scorers", spec)
    for spec in dict.fromkeys(spec for chain in asked.chains for spec in chain):
        from_spec("cleaners", spec)
    groups = _groups(asked, table, run)
    tasks = [task for model in asked.models for task in _tasks(model, asked, table, groups, run)]
    first: dict[tuple[str, str], Task] = {}
    for task in tasks:
        method = " ".join((task.model, task.key["scorer"], *task.key["cleaners"]))
        first.setdefault((task.collection, task.digest or method), task)
    ways = Counter(task.collection for task in first.values() if not task.beside)
    found = [t if t.beside or ways[t.collection] > 1 else replace(t, model="histeq") for t in first.values()]
    places = list(groups)
    return sorted(found, key=lambda task: (places.index(task.collection), bool(task.beside)))


def carry_out(tasks: list[Task], folder: Path, where: Mapping[str, str], run: Run) -> Iterator[Line]:
    """The lines of the table, each once its receipt is in ``folder/rows``.

    ``where`` (cohort, split) is noted in the receipts. A row that fails is one line that says why; the others go on.
    """
    done: dict[tuple[str, str], dict[str, Any]] = {}
    points: dict[str, OperatingPoint] = {}
    for place, task in enumerate(tasks, 1):
        line = Line(task.collection, task.model, task.key["model"]["name"], task.key["scorer"])
        line = replace(line, cleaners=tuple(task.key["cleaners"]), problem=task.problem)
        run.say(
            " ".join(filter(None, [f"{place}/{len(tasks)}", task.collection, task.model, line.scorer, task.problem]))
        )
        if not task.problem:
            try:
                record = _receipt(task, folder / "rows" / f"{task.digest}.json", where, points, run)
            except UadtkError as error:
                run.say(f"failed: {error.one_line()}")
                line = replace(line, problem=f"failed: {error.one_line()}")
            else:
                done[task.collection, task.digest] = record
                beside = done.get((task.collection, task.beside))
                paired = {} if beside is None else _paired(record, beside, run.seed)
                line = replace(line, evaluation=record["evaluation"], paired=paired, receipt=task.digest)
        yield line


def multiverses(
    tasks: Sequence[Task], lines: Sequence[Line], asked: Asked, table: Cohort, folder: Path, run: Run
) -> Iterator[Multiverse]:
    """Each row that could be done, under every way of post-processing; thresholds from the split ``calibration``.

    Raises DataError if there is no such split. A row that fails is said and left out.
    """
    split = table.split(asked.calibration)
    for task, line, label in zip(tasks, lines, labels(lines), strict=True):
        if line.evaluation is None:
            continue
        run.say(f"multiverse: {task.collection} {label}")
        checkpoint = receipts.checkpoint_of(task.source, task.key)
        calibration = receipts.in_collection(split, task.collection) or split
        try:
            yield multiverse(checkpoint, label, task.collection, task.rows, calibration, folder, run)
        except UadtkError as error:
            run.say(f"failed: {error.one_line()}")


def pictures_in(folder: Path, names: Sequence[str]) -> dict[str, bytes]:
    """PNGs by name, where there are any: the strip of a receipt, the head of a collection."""
    return {name: path.read_bytes() for name in names if (path := _picture(folder, name)).exists()}


def _picture(folder: Path, name: str) -> Path:
    return folder / "pictures" / f"{name or 'all'}.png"


def pairs_of(lines: Sequence[Line], seed: int) -> list[Pair]:
    """Every two rows of a collection, patient by patient: DICE at the point, and AUPRC."""
    scans: dict[str, dict[str, Any]] = {}
    for label, line in zip(labels(lines), lines, strict=True):
        if line.evaluation is not None:
            scans.setdefault(line.collection, {})[label] = line.evaluation["scans"]
    found = []
    for name, measure in product(scans, PAIRED):
        values = {label: by_patient(own, measure) for label, own in scans[name].items()}
        found += all_pairs({label: own for label, own in values.items() if own}, name, measure, seed)
    return found


def _groups(asked: Asked, table: Cohort, run: Run) -> dict[str, Cohort]:
    rows = receipts.chosen_rows(table, asked.split, "")
    if not any(row.lesion_mask for row in rows):
        raise DataError("no scan has a lesion mask: there is nothing to compare", table.source, NAME_MASKS)
    named = tuple(dict.fromkeys(row.collection for row in rows if row.collection))
    if not asked.collections and named and (others := sum(not row.collection for row in rows)):
        run.say(f"{others} scans of no collection are left out")
    names = asked.collections or named or ("",)
    return {name: receipts.chosen_rows(rows, "", name) for name in names}


def _tasks(model: str, asked: Asked, table: Cohort, groups: dict[str, Cohort], run: Run) -> Iterator[Task]:
    """The rows of one checkpoint, which is then let go: for each chain of cleaners baselines, then each scorer."""
    source, *scorers = [model] if Path(model).is_file() else model.split("@")
    found = open_checkpoint(source)
    place = str(Path(source).resolve()) if Path(source).is_file() else source
    point = None if asked.strategy or not (asked.point or found.points) else found.point(asked.point)
    again = _calibrations(asked, point, table, groups)
    if point is not None and None in again.values():
        run.say(f"histeq has no operating point: the cohort lacks the scans on which '{point.name}' was calibrated")
    for chain in asked.chains or (found.cleaners,):
        own = replace(found, cleaners=chain)
        bare = new("histeq", {}, own.preparation, cleaners=chain)
        digests = {}
        for name, rows in groups.items():
            key = receipts.key_of(bare, rows, again[name], asked.grid, run)
            yield Task(name, f"histeq as {Path(source).stem}", "histeq", key, rows, again[name])
            digests[name] = receipts.digest_of(key)
        for spec in scorers or asked.scorers or (own.scorer,):
            checkpoint = replace(own, scorer=spec)
            problem, other = _checked(checkpoint, point, run)
            if other is not None and None in again.values():
                run.say(f"{source} {' '.join((spec, *chain))}: no operating point: '{other.name}' is for other scores")
            for name, rows in groups.items():
                rule = again[name] if other is not None or asked.strategy else point
                key = receipts.key_of(checkpoint, rows, rule, asked.grid, run)
                yield Task(name, source, place, key, rows, rule, digests[name], problem)


def _calibrations(
    asked: Asked, point: OperatingPoint | None, table: Cohort, groups: dict[str, Cohort]
) -> dict[str, Calibration | None]:
    """For each collection, how a row finds a point of its own: by the strategy asked for, or the way ``point`` was."""
    if not asked.strategy:
        rows = None if point is None else calibration_rows(table, point)
        found = None if point is None or rows is None else Calibration(point.strategy, point.name, rows)
        return dict.fromkeys(groups, found)
    split, name = table.split(asked.calibration), opts.parse_spec(asked.strategy)[0]
    own = {group: receipts.in_collection(split, group) or split for group in groups}
    for rows in own.values():
        ready(asked.strategy, rows)
    return {group: Calibration(asked.strategy, name, rows) for group, rows in own.items()}


def _checked(checkpoint: Checkpoint, point: OperatingPoint | None, run: Run) -> tuple[str, OperatingPoint | None]:
    """Why the row cannot be, and ``point`` if it is for other scores.

    Builds the model: one that is broken is found before the work.
    """
    try:
        build_method(checkpoint, run)
    except UsageError as error:
        return error.one_line(), None
    if point is None:
        return "", None
    try:
        check_point(checkpoint, point)
    except UsageError:
        return "", point
    return "", None


def _receipt(
    task: Task, path: Path, where: Mapping[str, str], points: dict[str, OperatingPoint], run: Run
) -> dict[str, Any]:
    """The one that is there, or a new one. Several collections share what was calibrated for one of them."""
    if path.exists():
        try:
            found = receipts.read_receipt(path)
        except DataError as error:
            run.say(f"done again: {error.one_line()}")
        else:
            run.say("has been done")
            return found
    checkpoint = receipts.checkpoint_of(task.source, task.key)
    cases: dict[Path, Case] = {}
    shown = _shown(task.rows)

    def watch(row: Row, scoring: Scoring, truth: Mask) -> None:
        if row.image in shown:
            cases[row.image] = case(scoring, truth)

    rule = task.rule
    if isinstance(rule, Calibration):
        same = receipts.digest_of({**task.key, "cohort_digest": ""})
        if same not in points:
            points[same] = calibrate(checkpoint, rule.rows, rule.strategy, rule.name, run)
        rule = points[same]
    found_at = {"model": task.source, **where, "collection": task.collection}
    evaluation = receipts.measure(checkpoint, task.rows, rule, task.key["grid"], run, watch)
    if cases:  # before the receipt, which says that all is done
        folder = path.parent.parent
        write_bytes(_picture(folder, task.digest), strip(list(cases.values())))
        write_bytes(_picture(folder, task.collection), head(list(cases.values())))
    return receipts.write_receipt(path, task.key, found_at, evaluation)


def _shown(rows: Cohort) -> set[Path]:
    """The scans of the mosaic: labelled ones from the first to the last, the same for every model."""
    labelled = [row.image for row in rows if row.lesion_mask]
    places = np.linspace(0, len(labelled) - 1, min(SHOWN, len(labelled))).round().astype(int)
    return {labelled[place] for place in places}


def _paired(record: dict[str, Any], beside: dict[str, Any], seed: int) -> dict[str, tuple[int, float, float]]:
    found = {}
    for name in PAIRED:
        one, other = (by_patient(each["evaluation"]["scans"], name) for each in (record, beside))
        if one and other:
            test = compare(one, other, seed)
            found[name] = (test.pairs, test.difference, test.p)
    return found
