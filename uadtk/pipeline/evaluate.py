"""One checkpoint on one labelled cohort: every measure of ``uadtk.metrics.measures``, exact, with intervals.

Two grids. ``native``: the truth is never resampled; scores are brought to the scan's own grid, where ``segment`` works.
``model``: the study's protocol, everything on the slices that the network sees, where a pixel is lesion if more than
half of it is; slices without brain are ignored. Operating points are calibrated on native grids and used
unchanged here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from uadtk.checkpoint import STATISTICS, Checkpoint, new
from uadtk.core.errors import DataError, UsageError
from uadtk.core.finding import Scoring
from uadtk.core.run import Run
from uadtk.core.thresholder import OperatingPoint
from uadtk.core.volume import Grid, Mask
from uadtk.io.cohort import NAME_MASKS, Cohort, Distinct, Row, content_digest, digest_of_scan, read_row, refuse_copies
from uadtk.io.write import ROOM, scratch, storing
from uadtk.metrics.bootstrap import DRAWS
from uadtk.metrics.cost import measured
from uadtk.metrics.measures import Measure
from uadtk.metrics.pooled import pooled
from uadtk.metrics.scan import ScanMaps, ScanResult, ScanSums, UnsavedScan, measure_scan
from uadtk.pipeline.admit import admitted, first_admitted, warn
from uadtk.pipeline.each import each, successful
from uadtk.pipeline.point import check_point, floor_of, least_voxels
from uadtk.pipeline.score import Method, build_method, on_own_grid, packages_of, reconstruction_error, score_slices
from uadtk.pipeline.threshold import calibrate
from uadtk.preparation import prepare
from uadtk.preparation.lesion_free import lesion_of
from uadtk.version import VERSION


class Gallery(Protocol):
    """Collects from labelled scans: ``extract`` runs where one is scored, perhaps another process, ``add`` here."""

    def extract(self, row: Row, scoring: Scoring, lesion: Mask) -> Any: ...

    def add(self, extract: Any) -> None: ...


@dataclass(frozen=True)
class Evaluation:
    """``measures`` by name; ``lesion_share`` of the labelled brains' voxels; ``failed``: (image, reason) of each.

    ``options`` holds the resolved recipe and the digests of checkpoint and cohort: everything needed to repeat it.
    ``precision_recall`` and ``histograms`` as in ``uadtk.metrics.pooled.Pooled``. ``trained_on``: scans of split
    ``train``, which the model may have learned.
    """

    model: str
    grid: Grid
    point: OperatingPoint | None
    scans: tuple[ScanResult, ...]
    failed: tuple[tuple[str, str], ...]
    patients: int
    lesion_share: float
    measures: dict[str, Measure]
    precision_recall: list[tuple[float, float]]
    histograms: dict[str, Any]
    options: dict[str, Any]
    trained_on: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain values; undefined ones are None."""
        point = None if self.point is None else self.point.to_json()
        plain: dict[str, Any] = _without_nan({**asdict(self), "point": point})
        return plain


def evaluate(
    checkpoint: Checkpoint,
    cohort: Cohort,
    point: OperatingPoint | None,
    run: Run,
    grid: Grid = "native",
    gallery: Gallery | None = None,
) -> Evaluation:
    """All measures of ``checkpoint`` on ``cohort``; those of an operating point only if one is given.

    Rows with a lesion mask, even an empty one, are labelled. Rows without are healthy and count for false positives
    only, unless their group says otherwise: unmarked patients are left out. A scan that fails, or that the gate
    refuses, is reported and left out.
    ``run.seed`` decides the intervals. On native grids ``gallery`` collects from each labelled scan.

    Raises
    ------
    UsageError
        Neither lesion masks nor a point, or a point that was calibrated for other scores.
    DataError
        No row that can be used, or none that could be read and scored.
    """
    refuse_copies(cohort)
    digest = content_digest(cohort)
    rows = _usable(cohort, point, run)
    method = build_method(checkpoint, run)
    if point is not None:
        check_point(checkpoint, point)
    with scratch() as folder:
        measured_scans, failed = _measure_all(rows, method, point, grid, folder, run, gallery)
        found = pooled(measured_scans, point is not None, run.seed)
    if content_digest(cohort) != digest:
        raise DataError("its files changed while they were measured", cohort.source, "Run the command again.")
    labelled = [one.result for one in measured_scans if one.result.labelled]
    inside = sum(result.lesion_voxels - result.lesion_outside for result in labelled)
    brain = sum(result.brain_voxels for result in labelled)
    return Evaluation(
        model=checkpoint.source or checkpoint.model,
        grid=grid,
        point=point,
        scans=tuple(one.result for one in measured_scans),
        failed=failed,
        patients=len({one.result.subject for one in measured_scans}),
        lesion_share=inside / brain if brain else math.nan,
        measures=found.measures,
        precision_recall=found.precision_recall,
        histograms=found.histograms,
        options=_options(checkpoint, cohort, digest, point, run),
        trained_on=sum(row.split == "train" for row in cohort),
    )


def fitting_point(checkpoint: Checkpoint, name: str | None, run: Run) -> OperatingPoint | None:
    """The point of that name; without a name the checkpoint's own, or None where it has none for these scores.

    Raises
    ------
    UsageError
        No such point, several and none of them ``p98``, or the named one was calibrated for other scores.
    """
    if name is None and not checkpoint.points:
        return None
    point = checkpoint.point(name)
    try:
        check_point(checkpoint, point)
    except UsageError as error:
        if name is not None:
            raise
        run.say(f"no operating point: {error.one_line()}")
        return None
    return point


def baseline(
    checkpoint: Checkpoint, point: OperatingPoint | None, table: Cohort, run: Run
) -> tuple[Checkpoint, OperatingPoint | None]:
    """The no-learning baseline: ``histeq`` with the checkpoint's preparation and cleaners.

    Its point has the strategy of ``point`` and is calibrated on the same scans: ``table``, or the split of it, whose
    digest ``point`` carries. None where ``table`` does not hold those scans.
    """
    bare = bare_of(checkpoint)
    if point is None:
        return bare, None
    rows = calibration_rows(table, point)
    return bare, None if rows is None else calibrate(bare, rows, point.strategy, point.name, run)


def bare_of(checkpoint: Checkpoint) -> Checkpoint:
    """``histeq`` with the preparation and cleaners of a checkpoint, behind the same gate."""
    bare = new("histeq", {}, checkpoint.preparation, cleaners=checkpoint.cleaners)
    return replace(bare, training={STATISTICS: {"contrasts": checkpoint.statistics.get("contrasts", {})}})


def calibration_rows(table: Cohort, point: OperatingPoint) -> Cohort | None:
    """The scans ``point`` was calibrated on, if they are ``table`` or one of its splits."""
    return next((rows for rows in table.parts() if rows.digest() == point.digest), None)


def _usable(cohort: Cohort, point: OperatingPoint | None, run: Run) -> list[Row]:
    rows = [row for row in cohort if row.lesion_mask or row.presumed_healthy]
    if not rows:
        raise DataError("no scan has a lesion mask or is known to be healthy", cohort.source, NAME_MASKS)
    if point is None and not any(row.lesion_mask for row in rows):
        raise UsageError(
            "no lesion masks and no operating point: there is nothing to measure", cohort.source, NAME_MASKS
        )
    if len(rows) < len(cohort):
        run.say(f"{len(cohort) - len(rows)} scans of patients without a lesion mask are left out")
    return rows


def _measure_all(
    rows: Sequence[Row],
    method: Method,
    point: OperatingPoint | None,
    grid: Grid,
    folder: Path,
    run: Run,
    gallery: Gallery | None,
) -> tuple[list[ScanSums], tuple[tuple[str, str], ...]]:
    """Score and measure every row; the second part lists (image, reason) of those that failed."""
    distinct = Distinct()

    def store(place: int, row: Row, found: _Found) -> ScanSums:
        distinct.check(row, found.digest)
        if gallery is not None and found.extract is not None:
            gallery.add(found.extract)
        with storing(folder, "scores", ROOM):
            return found.measured.save(folder / f"{place:06d}")

    work = _Work(method, point, grid, gallery)
    outcomes = list(each(rows, work, run, "evaluating", finish=store))
    scans = [outcome.result for outcome in successful(outcomes, "evaluated")]
    return scans, tuple((str(o.row.image), o.error.one_line()) for o in outcomes if o.error is not None)


@dataclass(frozen=True)
class _Found:
    """A measured scan, the digest of its voxels, and what is for the gallery."""

    measured: UnsavedScan
    digest: str
    extract: Any


@dataclass(frozen=True)
class _Work:
    """Scores and measures a row."""

    method: Method
    point: OperatingPoint | None
    grid: Grid
    gallery: Gallery | None

    def __call__(self, _: int, row: Row, run: Run) -> _Found:
        method, checkpoint, extract, name = self.method, self.method.checkpoint, None, str(row.image)
        scan, brain_mask = read_row(row, run)
        lesion = lesion_of(row, scan, run)
        truth, voxel_ml = None if lesion is None else lesion.voxels, scan.voxel_ml
        first = first_admitted(scan, checkpoint.statistics, run, name)
        with measured() as preparing:
            prepared = prepare(scan, checkpoint.preparation, run, brain_mask)
        gate = admitted(scan, prepared.own_brain, first, checkpoint.statistics, run, name)
        warn(gate, name, run)
        with measured() as scoring_cost:
            stack, maps = score_slices(prepared, method, run)
            if self.grid == "native":
                scoring = on_own_grid(scan, prepared, stack, maps, method, run)
                score, brain = scoring.score.voxels, scoring.brain.voxels
                if self.gallery is not None and lesion is not None:
                    extract = self.gallery.extract(row, scoring, lesion)
            else:
                score, brain = (stack * prepared.brain).T, prepared.brain.T
        slices, abnormal = (stack * prepared.brain).max(axis=(1, 2)), np.zeros(len(stack), bool)
        if truth is not None:
            abnormal[:] = prepared.touched(truth).any(axis=(1, 2))
        error = reconstruction_error(prepared, maps)
        if error is not None:
            error = prepared.to_own_grid(error) if self.grid == "native" else error.T
        if self.grid == "model":
            truth = None if truth is None else prepared.to_slices(truth).T
            voxel_ml = math.prod(prepared.spacing_mm) / 1000
        cost, light = preparing + scoring_cost, gate.light
        about = (row.subject, name, row.site)
        volumes = ScanMaps(*about, score, brain, truth, voxel_ml, cost, light, error, slices, abnormal)
        threshold = None if self.point is None else self.point.threshold
        scan_measures = measure_scan(volumes, threshold, floor_of(self.point, voxel_ml))
        return _Found(scan_measures, digest_of_scan(scan), extract)


def _options(
    checkpoint: Checkpoint, cohort: Cohort, digest: str, point: OperatingPoint | None, run: Run
) -> dict[str, Any]:
    header, min_ml = checkpoint.header(), point and point.min_ml
    return {
        **{key: header[key] for key in ("model", "preparation", "scorer", "cleaners")},
        "checkpoint_digest": checkpoint.digest,
        "learned_scans": checkpoint.training.get("scans", {}).get("train"),
        "cohort": cohort.source,
        "cohort_digest": digest,
        "min_voxels": least_voxels(point) if min_ml is None else None,
        "min_ml": min_ml,
        "worst_light": run.worst,
        "seed": run.seed,
        "draws": DRAWS,
        "device": run.device,
        "versions": {"uadtk": VERSION, "numpy": np.__version__, **packages_of(checkpoint)},
    }


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
