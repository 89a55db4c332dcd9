"""Calibration: score healthy (or labelled) scans and let a thresholder choose the operating point."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import numpy as np

from uadtk import registry
from uadtk.checkpoint import Checkpoint
from uadtk.core.errors import DataError, UsageError
from uadtk.core.run import Run
from uadtk.core.spec import Spec
from uadtk.core.thresholder import Choice, OperatingPoint
from uadtk.io.cohort import Cohort, Row, refuse_copies
from uadtk.io.write import scratch
from uadtk.kernels import label_components
from uadtk.pipeline.ensemble import unseen_parts
from uadtk.pipeline.point import floor_of
from uadtk.pipeline.score import build_method
from uadtk.pipeline.scored import ScoredScan, ScoredScans, check_subjects, for_thresholder, score_all


def calibrate(checkpoint: Checkpoint, cohort: Cohort, strategy: Spec, name: str, run: Run) -> OperatingPoint:
    """The operating point that ``strategy`` (a thresholder) finds on ``cohort``.

    Where lesions are known, thresholders for healthy scans see only the lesion-free slices that the cohort lists, or
    all voxels more than 6 mm from a lesion. The point records in ``measured`` the share of the brain that is, on
    average over scans (``brain_counted``), the findings at the chosen threshold, and the number of scans that the gate
    warned about (``amber_scans``). Subjects of the training of an ensemble are scored by the member that has not seen
    them. A scan that fails, or that the gate refuses, is reported and left out.

    Raises
    ------
    UsageError
        The strategy needs lesion masks and the cohort has none, or needs more subjects than there are.
    DataError
        No scan could be used.
    """
    return cross_calibrate(checkpoint, unseen_parts(checkpoint, cohort), strategy, name, run)


def cross_calibrate(
    checkpoint: Checkpoint, parts: Sequence[tuple[Checkpoint, Cohort]], strategy: Spec, name: str, run: Run
) -> OperatingPoint:
    """The same where each part of the scans is scored by a checkpoint of its own, and cleaned as by ``checkpoint``.

    For cross-fitting: checkpoints trained alike, each without the patients of its part, so that a model that was
    trained on all patients has a point calibrated on all of them. Raises as :func:`calibrate`.
    """
    cohort = Cohort(tuple(row for _, part in parts for row in part), parts[0][1].source)
    refuse_copies(cohort)
    thresholder, rows = ready(strategy, cohort)
    if len(rows) < len(cohort) and not thresholder.needs_lesions:
        left = f"{len(cohort) - len(rows)} scans of patients without a lesion mask"
        run.say(f"{left} are left out: nothing says where they are healthy")
    usable = set(rows)
    with scratch() as folder:
        scored: list[ScoredScan] = []
        for n, (one, part) in enumerate(parts):
            own = [row for row in part if row in usable]
            try:
                if own:
                    method, place = build_method(one, run), folder / str(n)
                    scored += score_all(own, method, [checkpoint.cleaners], place, run, ("native",))
            except DataError as error:
                if len(parts) == 1:
                    raise
                run.say(f"left out: {error.one_line()}")
        scans = for_thresholder(thresholder, scored, 0, "native")
        used = {scan.folder for scan in scans.scans}
        for scan in scored:
            if scan.folder not in used:
                run.say(f"{scan.subject}: left out: no lesion-free tissue")
        choice = thresholder.choose(scans)
        findings = {} if thresholder.needs_lesions else lesion_free_findings(scans, choice)
    if not np.isfinite(choice.threshold):
        raise DataError(f"'{strategy.name}' found no threshold on {len(scans)} scans", str(cohort.source))
    amber = sum(scan.light != "green" for scan in scans.scans)
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
        measured={
            **choice.measured,
            **findings,
            **({"brain_counted": counted} if counted < 1 else {}),
            **({"amber_scans": float(amber)} if amber else {}),
        },
        interval=choice.interval,
        min_voxels=choice.min_voxels,
        min_ml=choice.min_ml,
        failed=len(rows) - len(scored),
    )


def lesion_free_findings(scans: ScoredScans, choice: Choice) -> dict[str, float]:
    """Findings per scan in its lesion-free part at the chosen threshold: median, 80th percentile, number of scans."""
    found = []
    for scan in scans:
        above, smallest = scan.score_zyx > np.float32(choice.threshold), floor_of(choice, scan.voxel_ml)
        found.append(label_components(above, connectivity=26, min_size=smallest)[1])
    median, p80 = np.quantile(found, (0.5, 0.8), method="inverted_cdf")
    return {"findings_median": float(median), "findings_p80": float(p80), "findings_scans": float(len(found))}


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
