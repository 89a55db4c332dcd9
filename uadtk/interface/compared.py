"""Two scans of one person, and what has changed between them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uadtk.builtin import DEFAULT_MODEL
from uadtk.core.errors import UsageError
from uadtk.core.run import Run
from uadtk.core.thresholder import OperatingPoint
from uadtk.core.volume import Affine
from uadtk.interface.opened import OpenModel, PathLike, ScanLike, open
from uadtk.io.cohort import Cohort, Row, refuse_copies
from uadtk.io.write import within
from uadtk.metrics.change import Change
from uadtk.pipeline import compare as pipeline
from uadtk.pipeline.run import make_run
from uadtk.pipeline.sources import chosen_rows
from uadtk.preparation.registration import simpleitk
from uadtk.report.change import Exam, FollowUp, as_text
from uadtk.result import Result

Point = str | float | OperatingPoint | None


@dataclass(frozen=True, repr=False)
class Comparison:
    """What has changed between two scans of one person; printed, a line per change."""

    follow_up: FollowUp

    @property
    def changes(self) -> list[Change]:
        """Each finding of both scans, in one change; ``pandas.DataFrame`` takes the list."""
        return list(self.follow_up.changes)

    @property
    def counts(self) -> dict[str, int]:
        """Changes by kind: new, gone, grown, shrunk, not covered, same."""
        return self.follow_up.counts()

    @property
    def notes(self) -> list[str]:
        """What speaks against trusting the comparison."""
        return list(self.follow_up.notes)

    @property
    def to_after(self) -> Affine:
        """Rigid transform (4, 4) from RAS+ mm of the first scan to the second."""
        return self.follow_up.to_after

    def save(self, folder: PathLike, overwrite: bool = False) -> dict[str, Path]:
        """Write ``compare.tsv``, ``compare.json`` and ``compare.html``, all or none; returns their paths."""
        pipeline.write_follow_up(self.follow_up, Path(folder), overwrite)
        return {name.rpartition(".")[2]: Path(folder, name) for name in pipeline.OUTPUTS}

    def __repr__(self) -> str:
        return as_text(self.follow_up)


def compare(
    before: ScanLike | Result,
    after: ScanLike | Result,
    output: PathLike | None = None,
    model: OpenModel | PathLike | None = None,
    point: Point = None,
    force: bool = False,
    overwrite: bool = False,
    **choices: Any,
) -> Comparison:
    """Align two scans of one person and match their findings: new, gone, grown, shrunk, or the same.

    Parameters
    ----------
    before, after
        Each a scan, as ``OpenModel.segment`` takes it; a :class:`Result`; or the path of one that ``uadtk segment``
        wrote, its folder or its mask. Both must be of one model, point and options.
    output
        Folder for ``compare.tsv``, ``.json`` and ``.html``; scans named by path are segmented into ``before`` and
        ``after`` there, unless they are. None: nothing is written, see ``Comparison.save``.
    model, point
        For what is not segmented yet; None: the default model, and its own point.
    force
        Compare even what looks like scans of two heads, and segment what the gate refuses.
    **choices
        Of :func:`uadtk.open`, where ``model`` is not open: ``threads=1``.

    Raises
    ------
    UsageError
        The two were segmented in different ways, or outputs exist.
    DataError
        They are the same scan, do not agree after alignment, or a result is not complete.
    BackendError
        SimpleITK is not installed.
    """
    simpleitk()
    folder = None if output is None else Path(output)
    if folder is not None:
        pipeline.refuse_outputs(folder, overwrite)
    given = dict(zip(("before", "after"), (before, after), strict=True))
    exams = {side: exam for side, one in given.items() if (exam := _exam(one))}
    if len(exams) == 2 and (model is not None or point is not None):
        raise UsageError("both scans are segmented already", "--model, --point", "Leave them out, or name the scans.")
    if len(exams) == 2:
        run = make_run("cpu")
    else:
        opened = model if isinstance(model, OpenModel) else open(model or DEFAULT_MODEL, **choices)
        run = opened.run
        scans = {side: _scan(one, run) for side, one in given.items() if side not in exams}
        rows = tuple(scan for scan in scans.values() if isinstance(scan, Row))
        if len(rows) == 2:
            refuse_copies(Cohort(rows, f"{before}, {after}"))
        for exam in exams.values():
            pipeline.refuse_other(exam, opened.checkpoint.digest)
        for side, scan in scans.items():
            exams[side] = _segmented(
                scan, opened, point, None if folder is None else within(folder, side), overwrite, force
            )
    comparison = Comparison(pipeline.compare(exams["before"], exams["after"], run, force))
    if folder is not None:
        comparison.save(folder, overwrite)
    return comparison


def _exam(given: ScanLike | Result) -> Exam | None:
    """Of what is segmented already; None for a scan."""
    if isinstance(given, Result):
        return _exam_of(given)
    state = pipeline.result_at(Path(given)) if isinstance(given, str | os.PathLike) else None
    return pipeline.exam_of(state) if state else None


def _exam_of(result: Result) -> Exam:
    return Exam(result.name, result.segmentation.scoring.scan, result.brain, result.components, result.provenance)


def _scan(given: ScanLike, run: Run) -> Row | ScanLike:
    """The one scan that a path names, or what is in memory."""
    if not isinstance(given, str | os.PathLike):
        return given
    return pipeline.only_row(chosen_rows([given], "", run), Path(given))


def _segmented(
    scan: Row | ScanLike, opened: OpenModel, point: Point, folder: Path | None, overwrite: bool, force: bool
) -> Exam:
    """``folder``: to write to, and to go on in; scans in memory are not written."""
    if not isinstance(scan, Row):
        return _exam_of(opened.segment(scan, point=point, force=force))
    if folder is None:
        return _exam_of(opened.segment(scan.image, point=point, brain_mask=scan.brain_mask, force=force))
    ((_, outcome),) = opened.segment_cohort(
        Cohort((scan,), str(scan.image)), folder, point, overwrite=overwrite, force=force
    )
    return pipeline.exam_of(outcome.result)
