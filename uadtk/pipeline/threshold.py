"""Calibration: score healthy (or labelled) scans and let a thresholder choose the operating point."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np

from uadtk import registry
from uadtk.checkpoint import Checkpoint
from uadtk.core.errors import DataError, UsageError
from uadtk.core.run import Run
from uadtk.core.spec import Spec
from uadtk.core.thresholder import OperatingPoint
from uadtk.io.cohort import Cohort, Row, refuse_copies
from uadtk.io.write import scratch
from uadtk.pipeline.score import build_method
from uadtk.pipeline.scored import check_subjects, for_thresholder, score_all


def calibrate(checkpoint: Checkpoint, cohort: Cohort, strategy: Spec, name: str, run: Run) -> OperatingPoint:
    """The operating point that ``strategy`` (a thresholder) finds on ``cohort``.

    Thresholders for healthy scans see the brain voxels of lesion-free slices only, where lesions are known. The point
    then records in ``measured`` which share of the brain that is, on average over scans: ``brain_counted``. A scan
    that fails is reported and left out.

    Raises
    ------
    UsageError
        The strategy needs lesion masks and the cohort has none, or needs more subjects than there are.
    DataError
        No scan could be used.
    """
    refuse_copies(cohort)
    thresholder, rows = ready(strategy, cohort)
    if len(rows) < len(cohort) and not thresholder.needs_lesions:
        left = f"{len(cohort) - len(rows)} scans of patients without a lesion mask"
        run.say(f"{left} are left out: nothing says where they are healthy")
    method = build_method(checkpoint, run)
    with scratch() as folder:
        scored = score_all(rows, method, [checkpoint.cleaners], folder, run, ("native",))
        scans = for_thresholder(thresholder, scored, 0, "native")
        for scan in scored:
            if scan not in scans.scans:
                run.say(f"{scan.subject}: left out: no lesion-free slice")
        choice = thresholder.choose(scans)
    if not np.isfinite(choice.threshold):
        raise DataError(f"'{strategy.name}' found no threshold on {len(scans)} scans", str(cohort.source))
    counted = 1.0 if thresholder.needs_lesions else float(np.mean([scan.normal["native"] for scan in scans.scans]))
    return OperatingPoint(
        name=name or strategy.name,
        threshold=float(choice.threshold),
        strategy=strategy,
        target=choice.target,
        scorer=checkpoint.scorer,
        cleaners=checkpoint.cleaners,
        scans=len(scans),
        digest=cohort.digest(),
        date=dt.date.today().isoformat(),
        measured={**choice.measured, **({"brain_counted": counted} if counted < 1 else {})},
        interval=choice.interval,
        min_voxels=choice.min_voxels,
        failed=len(rows) - len(scored),
    )


def ready(strategy: Spec, cohort: Cohort) -> tuple[Any, list[Row]]:
    """The thresholder, and the rows it can use. Raises UsageError as :func:`calibrate` does, before any work."""
    thresholder = registry.build("thresholders", strategy)
    rows = [row for row in cohort if row.lesion_mask or (not thresholder.needs_lesions and has_healthy(row))]
    if not rows and not thresholder.needs_lesions:
        groups = ", ".join(sorted({f"'{row.group}'" for row in cohort}))
        raise UsageError(
            f"'{strategy.name}' needs healthy scans, these are of patients without lesion masks (group {groups})",
            str(cohort.source),
            "Name lesion masks or lesion_free_slices, or mark healthy subjects in the column group.",
        )
    if not rows:
        raise UsageError(f"'{strategy.name}' needs lesion masks, the cohort names none", str(cohort.source))
    check_subjects(thresholder, (row.subject for row in rows))
    return thresholder, rows


def has_healthy(row: Row) -> bool:
    """Healthy as far as anyone says, or somebody marked what is."""
    return row.presumed_healthy or row.lesion_free_slices is not None


def strategy_of(strategy: str | None, budget: str | None) -> Spec:
    """The thresholder: ``p98``, or ``healthy-fp`` where there is a budget, unless it is named."""
    if budget is None:
        return Spec.parse(strategy or "p98")
    if "," in budget:
        raise UsageError("a budget has no comma", f"--budget '{budget}'", "Write 0.5, not 0,5.")
    return Spec.parse(strategy or "healthy-fp").having(budget=budget)
