"""From a file to a mask with findings and a report. The main job of uadtk, on one screen."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk import registry
from uadtk.core.errors import UsageError
from uadtk.core.finding import Finding, Reason, Segmentation
from uadtk.core.run import Run
from uadtk.core.thresholder import OperatingPoint, voxels_in
from uadtk.core.volume import Affine, Mask, Scan, ScoreMap, Volume, moved
from uadtk.io.cohort import Row, read_row
from uadtk.io.deflate import library
from uadtk.io.dicom_out import refuse_unwritable
from uadtk.io.read import located
from uadtk.io.results import output_paths
from uadtk.io.write import refuse_existing
from uadtk.kernels import label_components, label_stats
from uadtk.kernels._box import box_above, zeros
from uadtk.networks.memory import return_memory
from uadtk.pipeline.admit import admit, prepare_admitted, warn
from uadtk.pipeline.outputs import write_outputs
from uadtk.pipeline.point import check_point, floor_of
from uadtk.pipeline.score import Method, plugins_of, score_prepared
from uadtk.pipeline.sources import noticed, source_of_row
from uadtk.preparation.lobes import lobes_at
from uadtk.version import VERSION

MOST_MARKED = 1 / 3  # of a brain: more is rarely lesion


@dataclass(frozen=True)
class Rules:
    """Which components become findings: 26-connected, at least this large (millilitres take precedence).

    ``min_voxels`` None: the size the operating point was calibrated for, or 8 where it looked at no components.
    """

    min_voxels: int | None = None
    min_volume_ml: float | None = None

    def __post_init__(self) -> None:
        if self.min_volume_ml is not None and not 0 <= self.min_volume_ml <= 1e6:  # NaN is neither
            raise UsageError("is no volume", f"--min-volume-ml {self.min_volume_ml}", "Give millilitres, 0 or more.")
        if self.min_voxels is not None and not 1 <= self.min_voxels <= 2**31:
            raise UsageError("is no size", f"--min-voxels {self.min_voxels}", "Give voxels, 1 or more.")

    def smallest(self, voxel_ml: float, point: OperatingPoint) -> int:
        if self.min_volume_ml is not None:
            return voxels_in(self.min_volume_ml, voxel_ml)
        return self.min_voxels or floor_of(point, voxel_ml)


def segment(
    scan: Scan,
    method: Method,
    point: OperatingPoint,
    run: Run,
    brain_mask: Mask | None = None,
    rules: Rules | None = None,
    name: str = "",
) -> Segmentation:
    """Gate, score map, threshold, components, findings: all on the scan's own grid. ``name``: of the scan's file.

    Raises
    ------
    GateError
        The gate shows a worse light than ``run.worst``.
    """
    rules = rules or Rules()
    check_point(method.checkpoint, point)
    prepared, gate = prepare_admitted(
        scan, brain_mask, method.checkpoint.preparation, method.checkpoint.statistics, run, name
    )
    return_memory(scan.voxels.size)
    scoring = score_prepared(scan, prepared, method, run)
    return_memory(scan.voxels.size)
    smallest = rules.smallest(scan.voxel_ml, point)
    if point.smallest and smallest < floor_of(point, scan.voxel_ml):
        calibrated = f"'{point.name}' was calibrated for components of {point.smallest} or more"
        run.say(f"{calibrated}: its guarantee does not cover components this small ({smallest})")
    with run.stage("components"):
        components = components_of(scoring.score, point, smallest)
        box = box_above(components.zyx, 0)
        mask = Mask.from_zyx(zeros(components.zyx.shape, np.bool_), scan.affine)
        np.greater(components.zyx[box], 0, out=mask.zyx[box])
        findings = _findings(components, scoring.score, box[::-1], gate.average)
    return_memory(scan.voxels.size)
    gate = gate.having(*_share_marked(mask, scoring.brain))
    admit(gate, run, name)
    return Segmentation(scoring, point, mask, components, findings, gate=gate, min_voxels=smallest)


def components_of(score: ScoreMap, point: OperatingPoint, smallest: int) -> Volume:
    """Components of at least ``smallest`` voxels above the point's threshold; int32, the largest is 1."""
    threshold, labels = np.float32(point.threshold), zeros(score.zyx.shape, np.int32)
    box = box_above(score.zyx, threshold)
    labels[box], _ = label_components(score.zyx[box] > threshold, connectivity=26, min_size=smallest)
    return Volume.from_zyx(labels, score.affine)


def _share_marked(mask: Mask, brain: Mask) -> list[Reason]:
    share = float(np.count_nonzero(mask.voxels)) / max(1, int(np.count_nonzero(brain.voxels)))
    if share <= MOST_MARKED:
        return []
    what = f"{share:.0%} of the brain is marked as lesion"
    return [Reason("amber", "mask", what, share, f"at most {MOST_MARKED:.0%}")]


def segment_file(
    row: Row, name: str, method: Method, point: OperatingPoint, folder: Path, run: Run, rules: Rules, overwrite: bool
) -> Segmentation:
    """Read, segment, write, notify observers. Raises DataError if the files change while they are read."""
    refuse_existing(output_paths(folder, name).values(), overwrite)  # before the work; checked again before writing
    with located(row.image):
        with run.stage("read"), source_of_row(row) as source:
            scan, brain_mask = read_row(row, run)
            refuse_unwritable(scan, run.dicom)
        return_memory(scan.voxels.size)
        result = segment(scan, method, point, run, brain_mask, rules, str(row.image))
    source = {**source, **noticed(scan, brain_mask)}
    result = replace(result, provenance=provenance(source, method, point, rules, result, run))
    write_outputs(result, folder, name, run, overwrite)
    warn(result.gate, str(row.image), run)
    run.turn(lambda: registry.notify("uadtk_scan_done", run.say, segmentation=result))
    return result


def _findings(
    components: Volume, score: ScoreMap, box: tuple[slice, ...], average: Affine | None
) -> tuple[Finding, ...]:
    """``box``: the part (x, y, z) that has findings, which is small in most volumes."""
    affine = moved(components.affine, box)
    components, score = Volume(components.voxels[box], affine), ScoreMap(score.voxels[box], affine)
    stats = label_stats(components.zyx, score.zyx)
    axes, origin = components.affine[:3, :3].T, components.affine[:3, 3]
    peaks = [(x, y, z) for x, y, z in (_peaks(components, score) @ axes + origin).tolist()]
    return tuple(
        Finding(label, voxels * components.voxel_ml, (x, y, z), peak, mean, at, lobe)
        for label, voxels, (x, y, z), peak, mean, at, lobe in zip(
            range(1, len(stats.voxels) + 1),
            stats.voxels.tolist(),
            (stats.centroid[:, ::-1] @ axes + origin).tolist(),
            stats.peak.tolist(),
            stats.mean.tolist(),
            peaks,
            lobes_at(average, peaks),
            strict=True,
        )
    )


def _peaks(components: Volume, score: ScoreMap) -> NDArray[np.intp]:
    """Voxel (x, y, z) of the highest score of each component, (n, 3); the first in the file's order among equals."""
    inside = np.flatnonzero(components.zyx > 0)
    label, value = components.zyx.ravel()[inside], score.zyx.ravel()[inside]
    order = np.lexsort((-value, label))  # stable
    _, first = np.unique(label[order], return_index=True)
    return np.stack(np.unravel_index(inside[order[first]], components.zyx.shape)[::-1], axis=1)


def recipe(method: Method, point: OperatingPoint, rules: Rules, run: Run) -> dict[str, Any]:
    """Checkpoint and options as provenance records them: with the input, all that a result depends on."""
    checkpoint = method.checkpoint
    plugins = plugins_of(checkpoint)
    return {
        **({"plugins": plugins} if plugins else {}),
        "checkpoint": {"source": checkpoint.source, "digest": checkpoint.digest},
        "options": {
            **checkpoint.method(),
            "point": point.to_json(),
            "rules": {"min_voxels": rules.min_voxels, "min_volume_ml": rules.min_volume_ml},
            "worst_light": run.worst,
            "trust": run.trust,
            "device": run.device,
            **({"dicom": list(run.dicom)} if run.dicom else {}),
            **({"space": run.space} if run.space else {}),
        },
    }


def provenance(
    source: dict[str, Any], method: Method, point: OperatingPoint, rules: Rules, result: Segmentation, run: Run
) -> dict[str, Any]:
    """Everything needed to reproduce the mask."""
    packages = ("torch", "numpy", "numba", "nibabel", "connected-components-3d")
    chosen = recipe(method, point, rules, run)
    return {
        "versions": {
            "uadtk": VERSION,
            "python": platform.python_version(),
            **{package: _version(package) for package in packages},
            **library(),
            **chosen.get("plugins", {}),
        },
        "input": source,
        **({"plugins": chosen["plugins"]} if "plugins" in chosen else {}),
        "gate": result.gate.to_json(),
        "brain_source": result.scoring.brain_source,
        "decisions": result.scoring.decisions,
        "checkpoint": chosen["checkpoint"],
        "options": {**chosen["options"], "min_voxels": rules.smallest(result.mask.voxel_ml, point)},
        "seconds": run.timings,
    }


_version = cache(metadata.version)  # it searches the whole path, which takes 5 ms
