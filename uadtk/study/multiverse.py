"""A method under every common way of post-processing: threshold rule x erosion x median x component floor x grid.

The network sees each scan once (``uadtk.pipeline.scored``). Each rule chooses its threshold on the calibration scans as
they are cleaned in that universe, and one component sweep per floor gives the DICE at the thresholds of all rules.

``multiverse/<digest>.json`` keeps the result with everything it depends on, as a receipt does: what is there is not
done again. ``uadtk.metrics.multiverse`` makes ranks of the results.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from uadtk.checkpoint import Checkpoint
from uadtk.core import options as opts
from uadtk.core.errors import DataError, UadtkError
from uadtk.core.run import Run
from uadtk.core.thresholder import CalibrationScan, check_subjects
from uadtk.io.cohort import Cohort
from uadtk.io.write import write_json
from uadtk.kernels import component_sweep
from uadtk.metrics.multiverse import Multiverse, Universe
from uadtk.pipeline.evaluate import NAME_MASKS, Grid
from uadtk.pipeline.score import build_method, from_spec
from uadtk.pipeline.scored import Cleaned, Kept, keep_all
from uadtk.pipeline.threshold import scratch
from uadtk.study import receipt as receipts

ORACLE = "oracle"  # ⌈DICE⌉: its threshold is the best for the very scans it is tested on
RULES = {"p98": "p98", "validation": "validation", "healthy-fp": "healthy-fp:min_voxels=1", ORACLE: "validation"}
EROSIONS = (0, 3, 6)  # pixels of a slice
MEDIANS_MM = (0.0, 6.0, 10.0)  # edge of the window, 0 for none
FLOORS = (1, 8, 27)  # voxels of the grid; thresholds are chosen without one, as the study does
GRIDS: tuple[Grid, ...] = get_args(Grid)
CHAINS = tuple(product(EROSIONS, MEDIANS_MM))
FORMAT = 1


def multiverse(
    checkpoint: Checkpoint, label: str, collection: str, rows: Cohort, calibration: Cohort, folder: Path, run: Run
) -> Multiverse:
    """DICE on the labelled ``rows`` in every universe, thresholds of all rules but the oracle from ``calibration``.

    Of the checkpoint's cleaners ``erode`` and ``median`` are the ones that vary; others keep their place. A scan that
    fails and a rule that finds no threshold are left out and said. The result is also in ``folder/multiverse``.

    Raises
    ------
    UsageError
        The model lacks what the scorer needs.
    DataError
        No labelled row, no row or no calibration scan that could be scored, or not one threshold.
    UadtkError
        The disk is full.
    """
    key = _key(checkpoint, rows, calibration, run)
    path = folder / "multiverse" / f"{receipts.digest_of(key)}.json"
    record = _read(path, run)
    if record is None:
        record = {"format": FORMAT, "digest": path.stem, "key": key}
        record |= {"where": {"label": label, "collection": collection}, **_measured(checkpoint, rows, calibration, run)}
        write_json(path, record)
    return Multiverse(collection, label, tuple(Universe(**one) for one in record["universes"]))


def chain(cleaners: Sequence[str], erosion: int, median_mm: float) -> tuple[str, ...]:
    """``cleaners`` with this erosion and median in place of their own; where they have none, first and last."""
    ours = {
        "erode": (f"erode:iterations={erosion}",),
        "median": (f"median:size={median_mm:g},unit=mm",) if median_mm else (),
    }
    names = [opts.parse_spec(spec)[0] for spec in cleaners]
    first, last = (ours[name] if name not in names else () for name in ours)
    between = (spec for name, own in zip(names, cleaners, strict=True) for spec in ours.get(name, (own,)))
    return (*first, *between, *last)


def _key(checkpoint: Checkpoint, rows: Cohort, calibration: Cohort, run: Run) -> dict[str, Any]:
    return {
        **receipts.key_of(checkpoint, rows, None, "native", run),
        "calibration_digest": receipts.content_digest(calibration),
        "rules": RULES,
        "erosion": EROSIONS,
        "median_mm": MEDIANS_MM,
        "min_voxels": FLOORS,
        "grid": GRIDS,
    }


def _read(path: Path, run: Run) -> dict[str, Any] | None:
    """What was found before, with what was said; None if there is nothing that can be used."""
    if not path.exists():
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        usable = record["format"] == FORMAT and receipts.digest_of(record["key"]) == path.stem
        usable &= {"said", "universes"} <= record.keys()
    except (OSError, ValueError, TypeError, KeyError):
        usable = False
    if not usable:
        run.say(f"{path}: damaged or of another format, done again")
        return None
    for line in record["said"]:
        run.say(line)
    return record


def _measured(checkpoint: Checkpoint, rows: Cohort, calibration: Cohort, run: Run) -> dict[str, Any]:
    """``patients``, ``universes`` and what was ``said`` on the way, as plain values."""
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        run.say(line)

    heard = replace(run, say=say)
    labelled = [row for row in rows if row.lesion_mask]
    if not labelled:
        raise DataError("no scan has a lesion mask: there is no DICE", rows.source, NAME_MASKS)
    method = build_method(checkpoint, run)
    chains = [chain(checkpoint.cleaners, *choice) for choice in CHAINS]
    with scratch() as folder:
        tested = keep_all(labelled, method, chains, folder / "tested", heard)
        known = keep_all(list(calibration), method, chains, folder / "calibration", heard)
        universes = list(_universes(tested, known, heard))
    if not universes:
        raise DataError("no rule finds a threshold", calibration.source, "The lines above say why.")
    patients = len({scan.subject for scan in tested})
    return {"patients": patients, "said": said, "universes": [asdict(one) for one in universes]}


def _universes(tested: Sequence[Kept], known: Sequence[Kept], run: Run) -> Iterator[Universe]:
    thresholders = {rule: from_spec("thresholders", spec) for rule, spec in RULES.items()}
    missing: Counter[tuple[str, str]] = Counter()
    ways = list(product(enumerate(CHAINS), GRIDS))
    for (place, (erosion, median_mm)), grid in run.track(ways, "choosing thresholds"):
        thresholds = {}
        for rule, thresholder in thresholders.items():
            try:
                thresholds[rule] = _threshold(thresholder, tested if rule == ORACLE else known, place, grid)
            except UadtkError as error:
                missing[rule, error.one_line()] += 1
        if thresholds:
            dice = _dice(Cleaned(tested, place, grid), list(thresholds.values()))
            for (floor, own), (k, rule) in product(zip(FLOORS, dice, strict=True), enumerate(thresholds)):
                yield Universe(rule, erosion, median_mm, floor, grid, float(own[k]))
    for (rule, reason), times in missing.items():
        run.say(f"rule {rule}: left out for {times} of {len(ways)} cleaned scores: {reason}")


def _threshold(thresholder: Any, scans: Sequence[Kept], place: int, grid: Grid) -> float:
    """Raises UsageError or DataError if these scans are too few for the rule, or none will do."""
    labelled = thresholder.needs_lesions
    usable = [scan for scan in scans if (scan.labelled if labelled else grid in scan.healthy)]
    if not usable:
        raise DataError(f"no calibration scan with {'a lesion mask' if labelled else 'lesion-free slices'}")
    check_subjects(thresholder, len({scan.subject for scan in usable}))
    cleaned_alike = Cleaned(usable, place, grid, "brain" if labelled else "normal")
    return float(thresholder.choose(cleaned_alike).threshold)


def _dice(scans: Cleaned, thresholds: Sequence[float]) -> NDArray[np.float64]:
    """Mean DICE over patients, a patient's scans averaged, (floors, thresholds)."""
    at, where = np.unique(np.array(thresholds, np.float32), return_inverse=True)
    by_patient: dict[str, list[NDArray[np.float64]]] = {}
    for scan in scans:
        own = np.stack([_dice_of(scan, floor, at) for floor in FLOORS])
        by_patient.setdefault(scan.subject, []).append(own)
    mean: NDArray[np.float64] = np.mean([np.mean(own, axis=0) for own in by_patient.values()], axis=0)
    return mean[:, where]


def _dice_of(scan: CalibrationScan, floor: int, thresholds: NDArray[np.float32]) -> NDArray[np.float64]:
    """1 where mask and truth are both empty, as in ``uadtk.metrics.overlap``."""
    sweep = component_sweep(scan.score.T, np.asarray(scan.lesion).T, floor, thresholds=thresholds)
    total = sweep.voxels + sweep.positives
    return np.where(total > 0, 2 * sweep.true_positives / np.maximum(total, 1), 1.0)
