"""A model measured on labelled scans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from uadtk.core.run import silent
from uadtk.core.volume import Grid
from uadtk.interface.opened import OpenModel, PathLike, open
from uadtk.io.cohort import Cohort
from uadtk.pipeline.admit import worst_light
from uadtk.pipeline.evaluate import Evaluation, baseline, fitting_point
from uadtk.pipeline.evaluate import evaluate as measure
from uadtk.pipeline.sources import CohortLike, as_cohort, chosen_rows


class Evaluated(NamedTuple):
    """The model beside no learning (``histeq`` with the same preparation, brain masks and cleaners)."""

    model: Evaluation
    baseline: Evaluation | None


def evaluate(
    model: OpenModel | PathLike,
    cohort: CohortLike,
    split: str = "",
    where: Mapping[str, str] | None = None,
    point: str | None = None,
    grid: Grid = "native",
    force: bool = False,
) -> Evaluated:
    """Measure a model on labelled scans: AUPRC, ⌈DICE⌉, lesion-wise measures, each with its interval over patients.

    Parameters
    ----------
    where
        Only rows with these values of a column: ``{"collection": "lgg"}``.
    point
        Operating point; None: the checkpoint's own, if it has one for these scores.
    grid
        ``native``: the scan's own. ``model``: the slices that the network sees, as in the study.
    force
        Measure on scans that the gate would refuse, too.

    Raises
    ------
    UsageError
        Neither lesion masks nor a point, or a point that was calibrated for other scores.
    DataError
        No row that can be used, or none that could be read and scored.
    """
    own = model if isinstance(model, OpenModel) else open(model)
    run = replace(own.run, worst=worst_light(False, force))
    table = as_cohort(cohort, run)
    rows = chosen_rows(table, split, run)
    if where:
        rows = rows.where(**where)
    chosen = fitting_point(own.checkpoint, point, run)
    found = measure(own.checkpoint, rows, chosen, run, grid)
    if own.checkpoint.model == "histeq":
        return Evaluated(found, None)
    quiet = replace(run, say=silent)  # a scan that fails has been reported
    bare, its_point = baseline(own.checkpoint, chosen, table, quiet)
    failed = {image for image, _ in found.failed}
    scored = Cohort(tuple(row for row in rows if str(row.image) not in failed), rows.source)
    if chosen is not None and its_point is None:
        run.say(f"histeq has no operating point: the cohort lacks the scans on which '{chosen.name}' was calibrated")
    if its_point is None and not any(row.lesion_mask for row in scored):
        return Evaluated(found, None)
    return Evaluated(found, measure(bare, scored, its_point, quiet, grid))
