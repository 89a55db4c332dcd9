"""Receipts: the numbers of a benchmark row with everything they depend on, so that a row can be reused or reproduced.

``rows/<digest>.json`` of a benchmark::

    {"format": 3, "digest": "...",
     "key": {model, digests of checkpoint and cohort, scorer, cleaners, grid, point, seed, device, versions, ...},
     "where": {"model", "cohort", "split", "collection", "threads"},
     "evaluation": {measures with intervals, every scan, point, ...}}

``digest`` is the SHA-256 of ``key``. Digests of cohorts are taken over the bytes of the files, not their names.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from uadtk import registry
from uadtk.checkpoint import STATISTICS, Checkpoint, new, open_checkpoint
from uadtk.core import options as opts
from uadtk.core.errors import CheckpointError, DataError
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.spec import Spec, parse_all
from uadtk.core.thresholder import MIN_VOXELS, OperatingPoint
from uadtk.core.volume import Grid
from uadtk.io.cohort import Cohort, content_digest, read_cohort
from uadtk.io.memo import read_memo, write_memo
from uadtk.metrics.bootstrap import DRAWS
from uadtk.pipeline.evaluate import Evaluation, evaluate
from uadtk.pipeline.score import packages_of
from uadtk.pipeline.threshold import calibrate
from uadtk.preparation.gate import wanted_by
from uadtk.preparation.kinds import FLAIR
from uadtk.study.receipt_schema import check_receipt
from uadtk.version import VERSION

FORMAT = 3
TOLERANCE = 1e-6
_UNLIKE = {"seconds", "peak_mb", "image"}  # fields of a scan that may legitimately differ


@dataclass(frozen=True)
class Calibration:
    """An operating point that is still to be found: by ``strategy``, on ``rows``."""

    strategy: Spec
    name: str
    rows: Cohort


PointRule = OperatingPoint | Calibration | None


def key_of(checkpoint: Checkpoint, rows: Cohort, rule: PointRule, grid: Grid, run: Run) -> dict[str, Any]:
    """Everything that the numbers of an evaluation depend on, as plain values."""
    header = checkpoint.header()
    return {
        **{name: header[name] for name in ("model", "preparation", "scorer", "cleaners")},
        "checkpoint_digest": checkpoint.digest,
        "cohort_digest": content_digest(rows),
        "grid": grid,
        "point": _rule(rule),
        "min_voxels": MIN_VOXELS,
        "seed": run.seed,
        "draws": DRAWS,
        "device": run.device.partition(":")[0],
        "versions": _versions(checkpoint, rule),
        **({} if (contrast := wanted_by(checkpoint.statistics)) == FLAIR else {"contrast": contrast}),
    }


def write_receipt(path: Path, key: dict[str, Any], where: dict[str, str], evaluation: Evaluation) -> dict[str, Any]:
    """Write it, whole or not at all; returns the record."""
    return write_memo(path, FORMAT, key, {"where": where, "evaluation": evaluation.to_json()})


def read_receipt(path: Path) -> dict[str, Any]:
    """Raises DataError if it cannot be read, is no receipt, holds impossible values, or its key was changed."""
    fix = "Name a file of the folder 'rows' that uadtk benchmark wrote."
    return read_memo(path, FORMAT, "a receipt", check_receipt, fix)


def chosen_rows(table: Cohort, split: str, collection: str) -> Cohort:
    """The rows of one split and one collection, or of several as ``ms+wmh``; '' takes all.

    Raises DataError if there are none.
    """
    rows = table.split(split) if split else table
    for name in collection.split("+") if collection else []:
        rows.where(collection=name)
    return in_collection(rows, collection) or rows


def in_collection(rows: Cohort, collection: str) -> Cohort | None:
    """The rows of one collection, or of several as ``ms+wmh``; '' takes all; None if there are none."""
    own = tuple(row for row in rows if not collection or row.collection in collection.split("+"))
    return Cohort(own, rows.source) if own else None


def reproduce(receipt: dict[str, Any], run: Run, model: str = "", cohort: str = "") -> list[str]:
    """Evaluate the receipt's row again; returns a line for each number that differs by more than a relative 1e-6.

    Another processor causes smaller differences; another number of threads can cause 1e-4. Seconds and memory are not
    compared. ``model`` and ``cohort`` stand in for the receipt's paths, for files that have moved. ``run`` should have
    its device and threads; its seed is the receipt's. Versions that differ from the receipt's are reported.

    Raises
    ------
    CheckpointError, DataError
        The checkpoint, the scans, or those of the calibration are not those of the receipt.
    """
    key, where = receipt["key"], receipt["where"]
    run = replace(run, seed=key["seed"])
    checkpoint = checkpoint_of(model or where["model"], key)
    table = read_cohort(cohort or where["cohort"])
    rows = chosen_rows(table, where["split"], where["collection"])
    if content_digest(rows) != key["cohort_digest"]:
        raise DataError("its scans are not those of the receipt (digest differs)", table.source)
    rule = _same_point(receipt, table)
    for name, version in _versions(checkpoint, rule).items():
        if (then := key["versions"].get(name)) != version:
            run.say(f"{name} is {version}, the receipt was made with {then}")
    point = calibrate(checkpoint, rule.rows, rule.strategy, rule.name, run) if isinstance(rule, Calibration) else rule
    again = json.loads(json.dumps(evaluate(checkpoint, rows, point, run, key["grid"]).to_json()))
    return differences(receipt["evaluation"], again)


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """A line for each number of an evaluation that is another one now."""
    return list(_differences("", _numbers(then), _numbers(now)))


def checkpoint_of(source: str, key: dict[str, Any]) -> Checkpoint:
    """The checkpoint that a key describes, read from ``source``. Raises CheckpointError if it is another one."""
    if source == "histeq":  # the baseline uses the preparation of the model it is compared with
        preparation = opts.build(Preparation, key["preparation"], "receipt: preparation")
        found = new(source, key["model"]["options"], preparation)
        found = replace(found, training={STATISTICS: {"contrasts": {key.get("contrast", FLAIR): 1}}})
    else:
        found = open_checkpoint(source)
    if found.digest != key["checkpoint_digest"]:
        raise CheckpointError("is not the checkpoint of the receipt (digest differs)", source)
    return replace(found, scorer=Spec.parse(key["scorer"]), cleaners=parse_all(key["cleaners"]))


def _same_point(receipt: dict[str, Any], table: Cohort) -> PointRule:
    recorded = receipt["key"]["point"]
    if recorded is None:
        return None
    if "strategy" not in recorded:
        return OperatingPoint.from_json(receipt["evaluation"]["point"])
    parts = list(table.parts())
    collections = dict.fromkeys([receipt["where"]["collection"], *(row.collection or "" for row in table)])
    for rows in (*parts, *(in_collection(rows, name) for name in collections for rows in parts)):
        if rows is not None and content_digest(rows) == recorded["scans"]:
            return Calibration(Spec.parse(recorded["strategy"]), recorded["name"], rows)
    raise DataError("it lacks the scans of the receipt's calibration, or they have changed", table.source)


def _rule(rule: PointRule) -> dict[str, Any] | None:
    if isinstance(rule, Calibration):
        return {"name": rule.name, "strategy": str(rule.strategy), "scans": content_digest(rule.rows)}
    if rule is None:
        return None
    floor = {"min_voxels": rule.min_voxels} if rule.min_ml is None else {"min_ml": rule.min_ml}
    return {"name": rule.name, "threshold": rule.threshold, **floor}


def _versions(checkpoint: Checkpoint, rule: PointRule) -> dict[str, str]:
    used = packages_of(checkpoint)
    if isinstance(rule, Calibration):
        thresholder = registry.find("thresholders", rule.strategy.name)
        used[thresholder.dist] = thresholder.version
    packages = {name: metadata.version(name) for name in ("numpy", "scipy", "numba", "torch")}
    return {**packages, **used, "uadtk": VERSION}


def _numbers(evaluation: dict[str, Any]) -> dict[str, Any]:
    """The numbers that must be reproduced."""
    point = evaluation["point"]
    scans = {
        f"{place} {scan['subject']}": {name: value for name, value in scan.items() if name not in _UNLIKE}
        for place, scan in enumerate(evaluation["scans"], 1)
    }
    measures = {name: value for name, value in evaluation["measures"].items() if name not in _UNLIKE}
    threshold = None if point is None else point["threshold"]
    return {"threshold": threshold, "lesion_share": evaluation["lesion_share"], "scan": scans, "measure": measures}


def _differences(path: str, then: Any, now: Any) -> Iterator[str]:
    if isinstance(then, dict) and isinstance(now, dict):
        for name in dict.fromkeys([*then, *now]):
            yield from _differences(f"{path}.{name}" if path else name, then.get(name), now.get(name))
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for place, (one, other) in enumerate(zip(then, now, strict=True)):
            yield from _differences(f"{path}[{place}]", one, other)
    elif not _same(then, now):
        yield f"{path}: {then} in the receipt, now {now}"


def _same(then: Any, now: Any) -> bool:
    if isinstance(then, float | int) and isinstance(now, float | int):
        return math.isclose(then, now, rel_tol=TOLERANCE, abs_tol=1e-12)
    return bool(then == now)
