"""Calibration: score healthy (or labelled) scans and let a thresholder choose the operating point."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uadtk import registry
from uadtk.checkpoint import Checkpoint
from uadtk.core import options as opts
from uadtk.core.errors import DataError, UadtkError, UsageError
from uadtk.core.run import Run
from uadtk.core.thresholder import CalibrationScan, OperatingPoint, check_subjects
from uadtk.io.cohort import Cohort, Row, read_row
from uadtk.pipeline.score import Method, build_method, score_map
from uadtk.preparation.lesion_free import lesion_free, lesion_of


def calibrate(checkpoint: Checkpoint, cohort: Cohort, strategy: str, name: str, run: Run) -> OperatingPoint:
    """The operating point that ``strategy`` (a thresholder spec) finds on ``cohort``.

    Thresholders for healthy scans see the brain voxels of lesion-free slices only, where lesions are known. The point
    then says in ``measured`` which share of the brain that is, on average over scans: ``brain_counted``.

    A thresholder may have a method ``check_subjects(n)`` that raises UsageError: it is asked before any scan is scored.

    Raises
    ------
    UsageError
        The strategy needs lesion masks and the cohort has none, or more subjects than there are.
    DataError
        No scan could be used.
    """
    short = opts.parse_spec(strategy)[0]
    thresholder, rows = ready(strategy, cohort)
    method = build_method(checkpoint, run)
    with scratch() as folder:
        kept: dict[Path, float] = {}  # files, with the share of the brain that counts
        for row in run.track(rows, "scoring"):
            try:
                kept |= _spool(row, method, thresholder.needs_lesions, folder, run)
            except UadtkError as error:
                run.say(f"{row.subject}: left out: {error.one_line()}")
        if not kept:
            raise DataError("no scan could be used for calibration", str(cohort.source))
        choice = thresholder.choose(Spooled(tuple(kept)))
        counted = float(np.mean(list(kept.values())))
    if not np.isfinite(choice.threshold):
        raise DataError(f"'{short}' found no threshold on {len(kept)} scans", str(cohort.source))
    return OperatingPoint(
        name=name or short,
        threshold=float(choice.threshold),
        strategy=strategy,
        target=choice.target,
        scorer=checkpoint.scorer,
        cleaners=checkpoint.cleaners,
        scans=len(kept),
        digest=cohort.digest(),
        date=dt.date.today().isoformat(),
        measured={**choice.measured, **({"brain_counted": counted} if counted < 1 else {})},
        interval=choice.interval,
        min_voxels=choice.min_voxels,
    )


def ready(strategy: str, cohort: Cohort) -> tuple[Any, list[Row]]:
    """The thresholder, and the rows it can use. Raises UsageError where :func:`calibrate` says so, before any work."""
    short, values = opts.parse_spec(strategy)
    cls = registry.load("thresholders", short)
    thresholder = cls(opts.build(cls.Options, values, short))
    rows = [row for row in cohort if row.lesion_mask or not thresholder.needs_lesions]
    if not rows:
        raise UsageError(f"'{short}' needs lesion masks, the cohort names none", str(cohort.source))
    check_subjects(thresholder, len({row.subject for row in rows}))
    return thresholder, rows


@contextmanager
def scratch() -> Iterator[Path]:
    """A temporary folder. Raises UadtkError if it cannot be made or is full: no scan may be lost to that unseen."""
    try:
        with tempfile.TemporaryDirectory(prefix="uadtk-") as folder:
            yield Path(folder)
    except OSError as error:
        what = f"the scores cannot be kept there ({error.strerror or error})"
        raise UadtkError(what, tempfile.gettempdir(), "Set TMPDIR to a folder with room.") from error


@dataclass(frozen=True)
class Spooled:
    """Scored scans on disk, one at a time in memory."""

    files: tuple[Path, ...]

    def __iter__(self) -> Iterator[CalibrationScan]:
        for file in self.files:
            with np.load(file) as scan:
                yield CalibrationScan(
                    subject=str(scan["subject"]),
                    score=scan["score"],
                    brain=scan["brain"],
                    lesion=scan.get("lesion", None),
                    voxel_ml=float(scan["voxel_ml"]),
                )

    def __len__(self) -> int:
        return len(self.files)


def _spool(row: Row, method: Method, labelled: bool, folder: Path, run: Run) -> dict[Path, float]:
    """Score one scan into a file: it, and the share of its brain to calibrate on; nothing if there is none."""
    scan, brain_mask = read_row(row)
    scoring = score_map(scan, method, run, brain_mask)
    lesion = lesion_of(row, scan)
    brain = scoring.brain.voxels if labelled else scoring.brain.voxels & lesion_free(row, scan, lesion)
    if not brain.any():
        run.say(f"{row.subject}: left out: no lesion-free slice")
        return {}
    file = folder / f"{len(list(folder.iterdir())):06d}.npz"
    arrays = {"subject": np.array(row.subject), "score": scoring.score.voxels, "brain": brain}
    if labelled and lesion is not None:
        arrays["lesion"] = lesion.voxels
    np.savez(file, allow_pickle=False, voxel_ml=np.array(scan.voxel_ml), **arrays)
    return {file: np.count_nonzero(brain) / np.count_nonzero(scoring.brain.voxels)}
