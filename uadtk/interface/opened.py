"""A model that is ready to use."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from uadtk import checkpoint as checkpoints
from uadtk.checkpoint import Checkpoint
from uadtk.core.run import Run
from uadtk.core.thresholder import OperatingPoint
from uadtk.core.volume import Scan
from uadtk.io.dicom_out import kinds_of
from uadtk.io.read import as_mask, as_scan
from uadtk.io.results import ScanState
from uadtk.io.write import refuse_file
from uadtk.pipeline.admit import warn, worst_light
from uadtk.pipeline.archive import segment_cohort
from uadtk.pipeline.each import Outcome
from uadtk.pipeline.naming import names_in
from uadtk.pipeline.point import check_point, given
from uadtk.pipeline.run import make_run
from uadtk.pipeline.score import Method, build_method
from uadtk.pipeline.segment import Rules, provenance, segment
from uadtk.pipeline.sources import CohortLike, chosen_rows, completed, is_path, name_of, row_of, source_of
from uadtk.pipeline.threshold import calibrate, strategy_of
from uadtk.result import Result

if TYPE_CHECKING:
    from uadtk.interface.evaluated import Evaluated
    from uadtk.study.limits import Limits

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
        Threads of torch, 0 is ``OMP_NUM_THREADS`` or one per core; what bootstrap intervals depend on.
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
        row = row_of(scan)
        with self.run.stage("read"), source_of(scan, brain_mask, row.subject if row else "") as source:
            image = as_scan(scan, affine, self.run.trust)
            mask = None if brain_mask is None else as_mask(brain_mask, image)
        for note in image.notes:
            self.run.say(note)
        rules, run = Rules(min_voxels, min_volume_ml), replace(self.run, worst=worst_light(strict, force))
        name = str(scan) if is_path(scan) else ""
        found = segment(image, self.method, chosen, run, mask, rules, name)
        warn(found.gate, name or "scan", run)
        record = provenance(completed(source, image, mask), self.method, chosen, rules, found, run)
        return Result(replace(found, provenance=record), name_of(scan, image, row), self.run)

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
        dicom_sc: bool = False,
        space: Literal["", "MNI"] = "",
    ) -> Iterator[tuple[str, Outcome[ScanState]]]:
        """Segment scan after scan into files in ``output``: name and outcome of each; one that fails is reported.

        Scans that the folder holds already, of the same bytes, checkpoint, point and options, are not done again.
        ``shard`` (i, n): each n-th scan from the i-th. ``dicom_*``, ``space``: as in ``Result.save``.
        """
        part, everything = slice(shard[0] - 1, None, shard[1]), list(chosen_rows(cohort, split, self.run))
        rows, names, alone = everything[part], names_in(Path(output), everything)[part], len(everything) == 1
        chosen, rules = self._point(point), Rules(min_voxels, min_volume_ml)
        dicom = kinds_of(dicom_seg, dicom_sr, dicom_sc)
        run = replace(self.run, worst=worst_light(strict, force), dicom=dicom, space=space)
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
        sizes_mm: Sequence[float] | None = None,
        contrasts: Sequence[float] | None = None,
        repeats: int | None = None,
        split: str = "",
        overwrite: bool = False,
    ) -> Limits:
        """Plant lesions in lesion-free scans and measure which of them are found; files go to the folder ``output``.

        Parameters
        ----------
        sizes_mm, contrasts
            Diameters, and contrasts with the tissue around: 0.5 is 50 % brighter, -0.5 darker;
            None: those of ``uadtk limits``.
        repeats
            Implants of each size, contrast and place in each scan; None: 1, and more if there are fewer than ten scans.
        """
        from uadtk.study.detection_limit import CONTRASTS, SIZES_MM, Question
        from uadtk.study.limits import detection_limits

        sizes, shares = (SIZES_MM if sizes_mm is None else sizes_mm), (CONTRASTS if contrasts is None else contrasts)
        question = Question(tuple(sizes), tuple(shares), repeats)
        rows, chosen = chosen_rows(healthy, split, self.run), self._point(point)
        return detection_limits(self.method, chosen, rows, question, Path(output), self.run, overwrite)

    def evaluate(self, cohort: CohortLike, **choices: Any) -> Evaluated:
        """As :func:`uadtk.evaluate`."""
        from uadtk.interface.evaluated import evaluate

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
        check_point(self.method.checkpoint, chosen)  # after building it: a scorer that does not fit comes first
        return chosen
