"""The Python interface: what the commands do, for notebooks and scripts.

::

    import uadtk

    model = uadtk.open("scalespace")
    result = model.segment("scan.nii.gz")       # or a nibabel image, or an array with its affine
    result                                      # in Jupyter: a picture and the findings
    pandas.DataFrame(result.findings)
    result.save("out/")

    model.threshold("healthy.tsv", budget="1 lesion/scan")
    model.save("ours.safetensors")
    uadtk.evaluate(model, "cohort.tsv", split="test")
    uadtk.train("ae", "cohort.tsv", "ae.safetensors", epochs=20, latent=64)

Scorers, cleaners and strategies are written as on the command line: ``"restoration:steps=100"``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from uadtk import checkpoint as checkpoints
from uadtk.checkpoint import Checkpoint
from uadtk.core import options as opts
from uadtk.core.errors import UsageError
from uadtk.core.preparation import preparation_of
from uadtk.core.run import Run, silent
from uadtk.core.spec import Spec, parse_all
from uadtk.core.thresholder import OperatingPoint
from uadtk.core.volume import Grid, Scan
from uadtk.io.cohort import Cohort, output_names
from uadtk.io.dicom_out import kinds_of
from uadtk.io.read import as_mask, as_scan
from uadtk.io.results import ScanState
from uadtk.io.write import refuse_file
from uadtk.pipeline.admit import warn, worst_light
from uadtk.pipeline.archive import segment_cohort
from uadtk.pipeline.each import Outcome
from uadtk.pipeline.evaluate import Evaluation, baseline, fitting_point
from uadtk.pipeline.evaluate import evaluate as measure
from uadtk.pipeline.point import check_point, given
from uadtk.pipeline.run import make_run
from uadtk.pipeline.score import Method, build_method, check_untrained
from uadtk.pipeline.segment import Rules, provenance, segment
from uadtk.pipeline.sources import CohortLike, as_cohort, chosen_rows, is_path, name_of, remembering, source_of
from uadtk.pipeline.threshold import calibrate, strategy_of
from uadtk.result import Result
from uadtk.study.detection_limit import CONTRASTS, SIZES_MM, Question
from uadtk.study.limits import Limits, detection_limits
from uadtk.training.folds import By, Folds, train_folds
from uadtk.training.resume import refuse_checkpoint
from uadtk.training.train import Schedule
from uadtk.training.train import train as run_training

PathLike = str | os.PathLike[str]
ScanLike = PathLike | Scan | Any  # a nibabel image, or an array (x, y, z) with ``affine``
Trust = Literal["sform", "qform"]


def open(
    model: PathLike,
    scorer: str | None = None,
    cleaners: Sequence[str] | None = None,
    device: str = "auto",
    threads: int = 0,
    seed: int = 0,
    trust: Trust | None = None,
    jobs: int = 1,
    cluster: str = "",
) -> OpenModel:
    """A shipped model by name, or a checkpoint file (``.safetensors``), ready to use.

    Parameters
    ----------
    scorer, cleaners
        In place of the checkpoint's own: ``"residual"``, ``["erode:iterations=3", "median"]``; ``[]`` for none.
    device
        ``auto``, ``cpu`` or ``cuda``.
    threads, seed
        Threads of torch, 0 is one per core; what bootstrap intervals depend on.
    trust
        ``sform`` or ``qform``, where they contradict each other in a NIfTI header.
    jobs, cluster
        The scans of a cohort are done by this many processes, or by a Dask cluster (address, or ``local``).

    Raises
    ------
    UsageError
        Nothing of that name. A scorer that the model cannot serve is refused at its first use.
    CheckpointError, PluginError, BackendError
        The checkpoint, its plugin, or the device cannot be used.
    """
    checkpoint = checkpoints.open_with(model, scorer, cleaners)
    return OpenModel(checkpoint, make_run(device, threads, seed, trust, jobs, cluster))


@dataclass
class OpenModel:
    """A model with its scorer, cleaners and operating points. Made by :func:`uadtk.open`."""

    checkpoint: Checkpoint
    run: Run
    _method: Method | None = None

    @property
    def points(self) -> dict[str, OperatingPoint]:
        """Operating points by name."""
        return {point.name: point for point in self.checkpoint.points}

    def segment(
        self,
        scan: ScanLike,
        affine: Any = None,
        point: str | float | OperatingPoint | None = None,
        brain_mask: Any = None,
        min_voxels: int | None = None,
        min_volume_ml: float | None = None,
        strict: bool = False,
        force: bool = False,
    ) -> Result:
        """Segment one scan, in memory.

        Parameters
        ----------
        scan
            A path, a nibabel image, a ``Scan``, or an array (x, y, z) with its ``affine`` (4, 4) to RAS+ mm.
        point
            Operating point (name or itself) or a threshold of your own; None: the only one, or ``p98`` among several.
        brain_mask
            On the scan's grid: a path, a nibabel image, or an array. None: the scan is stripped if it is not yet.
        min_voxels, min_volume_ml
            Smallest component that becomes a finding; None: what the point was calibrated for, or 8 voxels.
        strict, force
            What the gate lets pass: green alone, or red too; by default green and amber. See ``Result.gate``.

        Raises
        ------
        DataError
            The scan or mask cannot be used.
        GateError
            A ``DataError``: the gate does not let the scan pass.
        UsageError
            No such point, or it was calibrated for other scores.
        """
        chosen = self._point(point)
        self.run.timings.clear()
        with self.run.stage("read"), source_of(scan, brain_mask) as source:
            image = as_scan(scan, affine, self.run.trust)
            mask = None if brain_mask is None else as_mask(brain_mask, image)
        for note in image.notes:
            self.run.say(note)
        rules, run = Rules(min_voxels, min_volume_ml), replace(self.run, worst=worst_light(strict, force))
        name = str(scan) if is_path(scan) else ""
        found = segment(image, self.method, chosen, run, mask, rules, name)
        warn(found.gate, name or "scan", run)
        record = provenance(remembering(source, image, mask), self.method, chosen, rules, found, run)
        return Result(replace(found, provenance=record), name_of(scan, image), self.run)

    def segment_cohort(
        self,
        cohort: CohortLike,
        output: PathLike,
        point: str | float | OperatingPoint | None = None,
        split: str = "",
        min_voxels: int | None = None,
        min_volume_ml: float | None = None,
        overwrite: bool = False,
        strict: bool = False,
        force: bool = False,
        shard: tuple[int, int] = (1, 1),
        dicom_seg: bool = False,
        dicom_sr: bool = False,
        space: Literal["", "MNI"] = "",
    ) -> Iterator[tuple[str, Outcome[ScanState]]]:
        """Segment scan after scan into files in ``output``: name and outcome of each; one that fails costs a line.

        Scans that the folder holds already, of the same bytes, checkpoint, point and options, are not done again.
        ``shard`` (i, n): each n-th scan from the i-th. ``dicom_seg``, ``dicom_sr``, ``space``: as in ``Result.save``.
        """
        part, everything = slice(shard[0] - 1, None, shard[1]), list(chosen_rows(cohort, split, self.run))
        rows, names, alone = everything[part], output_names(everything)[part], len(everything) == 1
        chosen, rules = self._point(point), Rules(min_voxels, min_volume_ml)
        run = replace(self.run, worst=worst_light(strict, force), dicom=kinds_of(dicom_seg, dicom_sr), space=space)
        outcomes = segment_cohort(rows, names, self.method, chosen, Path(output), run, rules, overwrite, alone)
        return ((names[outcome.place], outcome) for outcome in outcomes)

    def threshold(
        self,
        healthy: CohortLike,
        strategy: str | None = None,
        budget: str | None = None,
        name: str = "",
        split: str = "",
        force: bool = False,
    ) -> OperatingPoint:
        """Choose an operating point on healthy (or labelled) scans. The model has it from now on; ``save`` stores it.

        Parameters
        ----------
        strategy
            A thresholder such as ``"p98:percentile=99"``; ``p98`` if not given, ``healthy-fp`` with a ``budget``.
        budget
            False positives allowed: ``"1 lesion/scan"``, ``"0.5 ml/scan"`` or ``"1 % voxels"``.
        name
            Of the point; the strategy's if not given.
        force
            Use scans that the gate would refuse, too.
        """
        run = replace(self.run, worst=worst_light(False, force))
        rows = chosen_rows(healthy, split, run)
        point = calibrate(self.checkpoint, rows, strategy_of(strategy, budget), name, run)
        self.checkpoint = self.checkpoint.with_point(point)
        return point

    def limits(
        self,
        healthy: CohortLike,
        output: PathLike,
        point: str | float | OperatingPoint | None = None,
        sizes_mm: Sequence[float] = SIZES_MM,
        contrasts: Sequence[float] = CONTRASTS,
        repeats: int | None = None,
        split: str = "",
        overwrite: bool = False,
    ) -> Limits:
        """Plant lesions in lesion-free scans and measure which of them are found; files go to the folder ``output``.

        Parameters
        ----------
        sizes_mm, contrasts
            Diameters, and contrasts with the tissue around: 0.5 is 50 % brighter, -0.5 darker.
        repeats
            Implants of each size, contrast and place in each scan; None: 1, and more if there are fewer than ten scans.
        """
        rows, chosen = chosen_rows(healthy, split, self.run), self._point(point)
        question = Question(tuple(sizes_mm), tuple(contrasts), repeats)
        return detection_limits(self.method, chosen, rows, question, Path(output), self.run, overwrite)

    def evaluate(self, cohort: CohortLike, **choices: Any) -> Evaluated:
        """As :func:`uadtk.evaluate`."""
        return evaluate(self, cohort, **choices)

    def save(self, path: PathLike, overwrite: bool = False) -> Path:
        """Write the checkpoint with its operating points."""
        refuse_file(Path(path), overwrite)
        self.checkpoint.save(Path(path))
        return Path(path)

    @property
    def method(self) -> Method:
        """Model, scorer and cleaners, built on first use."""
        if self._method is None:
            self._method = build_method(self.checkpoint, self.run)
        return self._method

    def _point(self, point: str | float | OperatingPoint | None) -> OperatingPoint:
        if isinstance(point, float | int):
            return given(self.checkpoint, float(point))
        chosen = point if isinstance(point, OperatingPoint) else self.checkpoint.point(point)
        check_point(self.method.checkpoint, chosen)  # built first: a scorer that it cannot serve is the first to say
        return chosen


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


def train(
    model: str,
    cohort: CohortLike,
    output: PathLike,
    prepare: str = "",
    scorer: str | None = None,
    cleaners: Sequence[str] | None = None,
    minutes: float | None = None,
    slices: PathLike | None = None,
    folds: int | None = None,
    fold_by: By | None = None,
    device: str = "auto",
    threads: int = 0,
    jobs: int = 1,
    cluster: str = "",
    overwrite: bool = False,
    force: bool = False,
    log_to: Sequence[str] = (),
    **options: Any,
) -> OpenModel:
    """Train a model on the normal anatomy of a cohort and save it; an interrupted training resumes, bit-identically.

    Parameters
    ----------
    model
        A name of ``uadtk models``.
    output
        Checkpoint to write (``.safetensors``).
    prepare
        Preparation, as ``"side=256,denoise=yes"``; ``"thesis"``: that of the thesis, in SRI24 space.
    minutes
        Pause after this long; the same call resumes.
    slices, jobs, cluster
        Folder for prepared slices, shared between trainings; who prepares them, as in :func:`uadtk.open`.
    folds, fold_by
        Train this many times, each without a part of the subjects (or of ``site`` or ``collection``), and save the
        ensemble: it scores with the mean, and calibrates each of these subjects by the member that has not seen it.
    force
        Train on scans that the gate would refuse, too: of another contrast than most, or no scans of a brain.
    log_to
        Loggers that plugins bring, which are called after each epoch: ``["tensorboard"]``.
    **options
        Options of the model (``latent=64``) and of the schedule (``epochs=20``), as ``uadtk train MODEL --help`` lists.

    Raises
    ------
    UsageError
        No such model or option, or ``output`` exists or belongs to another training.
    DataError
        No scan can be used.
    """
    path = Path(output)
    refuse_checkpoint(path, overwrite)
    if fold_by and folds is None:
        raise UsageError("says how to make folds, but not how many", "--fold-by", "Add --folds 5.")
    chosen = {field.name: options.pop(field.name) for field in opts.fields(Schedule) if field.name in options}
    schedule = opts.build(Schedule, chosen, "training")
    recipe = preparation_of(prepare)
    specs = None if cleaners is None else parse_all(list(cleaners))
    fresh = checkpoints.new(model, options, recipe, Spec.parse(scorer) if scorer else None, specs)
    check_untrained(fresh)
    run = make_run(device, threads, schedule.seed, None, jobs, cluster)
    run = replace(run, worst=worst_light(False, force), log_to=tuple(log_to))
    cache = None if slices is None else Path(slices)
    table = as_cohort(cohort, run)
    if folds is not None:
        divided = Folds(folds, fold_by or "subject")
        return OpenModel(train_folds(fresh, table, schedule, divided, path, run, minutes, cache, overwrite), run)
    trained = run_training(fresh, table, schedule, path, run, minutes, cache)
    return OpenModel(trained, run)


__all__ = ["Evaluated", "OpenModel", "Result", "evaluate", "open", "train"]
