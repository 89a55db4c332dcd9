"""A grid of checkpoints x scorers x collections on one cohort, each beside no learning, one row at a time.

Every row is evaluated on its own (``uadtk.pipeline.evaluate``) and becomes a receipt (``uadtk.study.receipt``). A row
whose receipt is there is not measured again, unless one of its scans had failed. Memory holds one checkpoint and one
scan, and the receipts' figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from uadtk.core.errors import DataError
from uadtk.core.finding import Scoring
from uadtk.core.run import Run
from uadtk.core.thresholder import OperatingPoint
from uadtk.core.volume import Mask
from uadtk.io.cohort import Cohort, Row, safe_name
from uadtk.io.memo import digest_of
from uadtk.io.write import within, write_bytes
from uadtk.metrics.compare import Pair, all_pairs, compare
from uadtk.metrics.multiverse import Multiverse
from uadtk.metrics.study import by_patient
from uadtk.pipeline.each import as_error
from uadtk.pipeline.evaluate import evaluate
from uadtk.pipeline.threshold import calibrate
from uadtk.report.mosaic_strips import Case, case, head, strip
from uadtk.report.table import PAIRED, Line, labels
from uadtk.study.multiverse import multiverse
from uadtk.study.receipt import Calibration, checkpoint_of, in_collection, read_receipt, write_receipt
from uadtk.study.tasks import Question, Task

SHOWN = 4  # scans in the mosaic of a collection


def carry_out(tasks: Sequence[Task], folder: Path, where: Mapping[str, str], run: Run) -> Iterator[Line]:
    """The lines of the table, each once its receipt is in ``folder/rows``.

    ``where`` (cohort, split) is noted in the receipts. A row that fails is one line with the reason; the others are
    measured. An error that stops a run (``stops_run``) is raised.
    """
    for part in ("rows", "pictures", "multiverse"):  # before the work
        within(folder, part)
    records: dict[tuple[str, str], dict[str, Any]] = {}
    points: dict[str, OperatingPoint] = {}
    for number, task in enumerate(tasks, 1):
        line = Line(task.collection, task.model, task.key["model"]["name"], task.scorer, task.cleaners)
        title = (f"{number}/{len(tasks)}", task.collection, task.model, str(task.scorer), task.problem)
        run.say(" ".join(filter(None, title)))
        if task.problem:
            yield replace(line, problem=task.problem)
            continue
        path = within(folder, "rows") / f"{task.digest}.json"
        try:
            record = _stored(task, path, run) or _measured(task, path, where, points, run)
        except Exception as error:
            failure = as_error(error, task.model)
            if failure.stops_run:
                raise
            run.say(f"failed: {failure.one_line()}")
            yield replace(line, problem=f"failed: {failure.one_line()}")
            continue
        records[task.collection, task.digest] = record
        beside = records.get((task.collection, task.beside))
        paired = {} if beside is None else _paired(record, beside, run.seed)
        yield replace(line, evaluation=record["evaluation"], paired=paired, receipt=task.digest)


def _stored(task: Task, path: Path, run: Run) -> dict[str, Any] | None:
    """The receipt of an earlier run; None if there is none, it is damaged, or it lacks a scan that had failed.

    Scans that failed when a checkpoint's own point was calibrated do not count: it would not be calibrated again.
    """
    if not path.exists():
        return None
    try:
        record = read_receipt(path)
    except DataError as error:
        run.say(f"measured again: {error.one_line()}")
        return None
    evaluation = record["evaluation"]
    failed = len(evaluation["failed"])
    if isinstance(task.rule, Calibration):
        failed += evaluation["point"].get("failed", 0)
    run.say(f"measured again: {failed} scans had failed" if failed else "measured before")
    return None if failed else record


def _measured(
    task: Task, path: Path, where: Mapping[str, str], points: dict[str, OperatingPoint], run: Run
) -> dict[str, Any]:
    """Evaluate a row and write its receipt and pictures. ``points`` holds what other collections calibrated."""
    checkpoint = checkpoint_of(task.source, task.key)
    point = task.rule
    if isinstance(point, Calibration):
        same = digest_of({**task.key, "cohort_digest": ""})
        if same not in points:
            points[same] = calibrate(checkpoint, point.rows, point.strategy, point.name, run)
        point = points[same]
    gallery = _Gallery(_shown(task.rows))
    evaluation = evaluate(checkpoint, task.rows, point, run, task.key["grid"], gallery)
    if gallery.cases:  # before the receipt, which says that all is done
        folder = path.parent.parent
        write_bytes(_picture(folder, task.digest), strip(gallery.cases))
        write_bytes(_picture(folder, task.collection), head(gallery.cases))
    return write_receipt(path, task.key, {"model": task.source, **where, "collection": task.collection}, evaluation)


@dataclass
class _Gallery:
    """Collects the scans of the mosaic as they are evaluated."""

    shown: set[Path]
    cases: list[Case] = field(default_factory=list)

    def extract(self, row: Row, scoring: Scoring, lesion: Mask) -> Case | None:
        return case(scoring, lesion) if row.image in self.shown else None

    def add(self, extract: Case) -> None:
        self.cases.append(extract)


def _shown(rows: Cohort) -> set[Path]:
    """The scans of the mosaic: labelled ones from the first to the last, the same for every model."""
    labelled = [row.image for row in rows if row.lesion_mask]
    places = np.linspace(0, len(labelled) - 1, min(SHOWN, len(labelled))).round().astype(int)
    return {labelled[place] for place in places}


def _paired(record: dict[str, Any], beside: dict[str, Any], seed: int) -> dict[str, tuple[int, float, float]]:
    """Number of patients, mean difference and p-value for each of ``PAIRED``."""
    found = {}
    for name in PAIRED:
        one, other = (by_patient(each["evaluation"]["scans"], name) for each in (record, beside))
        if one and other:
            test = compare(one, other, seed)
            found[name] = (test.pairs, test.difference, test.p)
    return found


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


def multiverses(
    tasks: Sequence[Task], lines: Sequence[Line], question: Question, table: Cohort, folder: Path, run: Run
) -> Iterator[Multiverse]:
    """Each row that was measured, under every way of post-processing; thresholds from the split ``calibration``.

    Raises DataError if there is no such split. A row that fails is reported and left out.
    """
    split = table.split(question.calibration)
    for task, line, label in zip(tasks, lines, labels(lines), strict=True):
        if line.evaluation is None:
            continue
        run.say(f"multiverse: {task.collection} {label}")
        checkpoint = checkpoint_of(task.source, task.key)
        calibration = in_collection(split, task.collection) or split
        try:
            yield multiverse(checkpoint, label, task.collection, task.rows, calibration, folder, run)
        except Exception as error:
            failure = as_error(error, label)
            if failure.stops_run:
                raise
            run.say(f"failed: {failure.one_line()}")


def pictures_in(folder: Path, names: Sequence[str]) -> dict[str, bytes]:
    """PNGs by name, where there are any: the strip of a receipt, the head of a collection."""
    return {name: path.read_bytes() for name in names if (path := _picture(folder, name)).exists()}


def _picture(folder: Path, name: str) -> Path:
    """A name that cannot be that of a file, such as a collection ``a/b``, gets part of its digest: no two agree."""
    safe = safe_name(name) if name else "all"
    return within(folder, "pictures") / f"{safe if safe in (name, 'all') else f'{safe}-{digest_of(name)[:8]}'}.png"
