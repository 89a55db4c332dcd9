"""From a file to a mask with findings and a report. The main job of uadtk, on one screen."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import uadtk
from uadtk import registry
from uadtk.core.errors import UadtkError
from uadtk.core.finding import Finding, Segmentation
from uadtk.core.run import Run
from uadtk.core.thresholder import OperatingPoint
from uadtk.core.volume import Mask, Scan, Volume
from uadtk.io.cohort import Row, read_row
from uadtk.io.read import located
from uadtk.io.write import refuse_existing
from uadtk.kernels import label_components, label_stats
from uadtk.pipeline.outputs import output_paths, write_outputs
from uadtk.pipeline.point import check_point, floor_of
from uadtk.pipeline.score import Method, score_map


@dataclass(frozen=True)
class Rules:
    """What becomes a finding: 26-connected, and at least this large (millilitres win where both are given).

    ``min_voxels`` None: the size the operating point was calibrated for, or 8 where it looked at no components.
    """

    min_voxels: int | None = None
    min_volume_ml: float | None = None

    def smallest(self, voxel_ml: float, point: OperatingPoint) -> int:
        if self.min_volume_ml is not None:
            return max(1, int(np.ceil(self.min_volume_ml / voxel_ml - 1e-9)))
        return self.min_voxels or floor_of(point)


def segment(
    scan: Scan,
    method: Method,
    point: OperatingPoint,
    run: Run,
    brain_mask: Mask | None = None,
    rules: Rules | None = None,
) -> Segmentation:
    """Score map, threshold, components, findings: all on the scan's own grid."""
    rules = rules or Rules()
    check_point(method.checkpoint, point)
    scoring = score_map(scan, method, run, brain_mask)
    smallest = rules.smallest(scan.voxel_ml, point)
    if point.min_voxels is not None and smallest < point.min_voxels:
        calibrated = f"'{point.name}' was calibrated for components of {point.min_voxels} voxels or more"
        run.say(f"{calibrated}: with {smallest} it does not hold what it promises")
    with run.stage("components"):
        above = scoring.score.voxels > np.float32(point.threshold)
        labels, _ = label_components(above.T, connectivity=26, min_size=smallest)
        components = Volume(labels.T, scan.affine)
        findings = _findings(components, scoring.score.voxels)
    return Segmentation(scoring, point, Mask(components.voxels > 0, scan.affine), components, findings)


def segment_file(
    row: Row, name: str, method: Method, point: OperatingPoint, folder: Path, run: Run, rules: Rules, overwrite: bool
) -> Segmentation:
    """Read, segment, write, tell the observers."""
    refuse_existing(output_paths(folder, name).values(), overwrite)  # before the work, and again before writing
    with run.stage("read"):
        scan, brain_mask = read_row(row)
    with located(row.image):  # what is wrong with a scan is said of that scan
        result = segment(scan, method, point, run, brain_mask, rules)
    result = replace(result, provenance=provenance(row, method, point, rules, result, run))
    write_outputs(result, folder, name, run, overwrite)
    registry.notify("uadtk_scan_done", run.say, segmentation=result)
    return result


@dataclass(frozen=True)
class Outcome:
    """One row of a cohort: a segmentation, or the error that prevented it."""

    row: Row
    name: str
    result: Segmentation | UadtkError


def segment_cohort(
    rows: Sequence[tuple[Row, str]],
    method: Method,
    point: OperatingPoint,
    folder: Path,
    run: Run,
    rules: Rules,
    overwrite: bool,
) -> Iterator[Outcome]:
    """Segment every row; a failure is one outcome, the rest go on."""
    for row, name in run.track(rows, "segmenting"):
        run.timings.clear()
        try:
            yield Outcome(row, name, segment_file(row, name, method, point, folder, run, rules, overwrite))
        except Exception as error:
            if len(rows) == 1 and not isinstance(error, UadtkError):
                raise  # a bug: with a traceback, where there is nothing else to lose
            told = as_told(error, row)
            registry.notify("uadtk_scan_failed", run.say, path=row.image, error=told)
            yield Outcome(row, name, told)


def as_told(error: Exception, row: Row) -> UadtkError:
    """The error that a row of a cohort ends with: a bug in one scan costs that scan alone, and says so."""
    if isinstance(error, UadtkError):
        return error
    what = f"failed unexpectedly ({type(error).__name__}: {error})"
    return UadtkError(what, str(row.image), "Run it alone for the traceback, and report it.")


def _findings(components: Volume, score: np.ndarray[Any, np.dtype[np.float32]]) -> tuple[Finding, ...]:
    stats = label_stats(components.voxels.T, score.T)
    centroids_mm = stats.centroid[:, ::-1] @ components.affine[:3, :3].T + components.affine[:3, 3]
    return tuple(
        Finding(label, voxels * components.voxel_ml, (x, y, z), peak, mean)
        for label, voxels, (x, y, z), peak, mean in zip(
            range(1, len(stats.voxels) + 1),
            stats.voxels.tolist(),
            centroids_mm.tolist(),
            stats.peak.tolist(),
            stats.mean.tolist(),
            strict=True,
        )
    )


def provenance(
    row: Row, method: Method, point: OperatingPoint, rules: Rules, result: Segmentation, run: Run
) -> dict[str, Any]:
    """Everything that is needed to make the same mask again."""
    checkpoint = method.checkpoint
    packages = ("torch", "numpy", "numba", "nibabel", "connected-components-3d")
    return {
        "versions": {
            "uadtk": uadtk.__version__,
            "python": platform.python_version(),
            **{package: metadata.version(package) for package in packages},
            **({checkpoint.dist: checkpoint.version} if checkpoint.dist != registry.OWN else {}),
        },
        "input": {"path": str(row.image), "sha256": _sha256(row.image), "brain_mask": str(row.brain_mask or "")},
        "brain_source": result.scoring.brain_source,
        "checkpoint": {"source": checkpoint.source, "digest": checkpoint.digest},
        "options": {
            **{key: value for key, value in checkpoint.header().items() if key in _RESOLVED},
            "point": asdict(point),
            "min_voxels": rules.smallest(result.mask.voxel_ml, point),
            "device": run.device,
        },
        "seconds": run.timings,
    }


_RESOLVED = ("model", "preparation", "scorer", "cleaners")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
