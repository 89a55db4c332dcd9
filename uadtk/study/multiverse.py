"""A method under every common way of post-processing: threshold rule x erosion x median x component floor x grid.

The network sees each scan once (``uadtk.pipeline.scored``). Each rule chooses its threshold on the calibration scans as
they are cleaned in that universe, and one component sweep per floor gives the DICE at the thresholds of all rules.

``multiverse/<digest>.json`` stores the result with everything it depends on, as a receipt does. It is used again unless
a scan had failed. ``uadtk.metrics.multiverse`` makes ranks of the results.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk import registry
from uadtk.checkpoint import Checkpoint
from uadtk.core import schema
from uadtk.core.errors import DataError, UadtkError
from uadtk.core.run import Run
from uadtk.core.spec import Spec
from uadtk.core.thresholder import CalibrationScan
from uadtk.io.cohort import NAME_MASKS, Cohort, content_digest
from uadtk.io.memo import digest_of, remembered, write_memo
from uadtk.io.write import scratch, within
from uadtk.kernels import component_sweep
from uadtk.metrics.multiverse import Multiverse, Universe
from uadtk.pipeline.score import build_method
from uadtk.pipeline.scored import GRIDS, ScoredScan, ScoredScans, for_thresholder, score_all
from uadtk.study.receipt import key_of

ORACLE = "oracle"  # ⌈DICE⌉: the best threshold for the test scans themselves
RULES = {
    "p98": Spec("p98"),
    "validation": Spec("validation"),
    "healthy-fp": Spec("healthy-fp", (("min_voxels", "1"),)),
    ORACLE: Spec("validation"),
}
EROSIONS = (0, 3, 6)  # pixels of a slice
MEDIANS_MM = (0.0, 6.0, 10.0)  # edge of the window, 0 for none
FLOORS = (1, 8, 27)  # voxels of the grid; thresholds are chosen without a floor, as in the study
CHAINS = tuple(product(EROSIONS, MEDIANS_MM))
FORMAT = 3
_MEMO = schema.record(
    {
        "failed": schema.whole(0, 2**40),
        "said": schema.items(schema.text()),
        "universes": schema.items(schema.like(Universe)),
    }
)


def multiverse(
    checkpoint: Checkpoint, label: str, collection: str, rows: Cohort, calibration: Cohort, folder: Path, run: Run
) -> Multiverse:
    """DICE on the labelled ``rows`` in every universe, thresholds of all rules but the oracle from ``calibration``.

    The checkpoint's ``erode`` and ``median`` are varied; other cleaners stay as they are. A scan that fails and a rule
    that finds no threshold are reported and left out. The result is also stored in ``folder/multiverse``.

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
    path = within(folder, "multiverse") / f"{digest_of(key)}.json"
    record = remembered(path, FORMAT, key, _MEMO)
    if record is None or record["failed"]:
        if path.exists():
            why = f"{record['failed']} scans had failed" if record else f"{path} is damaged or of another format"
            run.say(f"measured again: {why}")
        content = _measured(checkpoint, rows, calibration, run)
        record = write_memo(path, FORMAT, key, {"where": {"label": label, "collection": collection}, **content})
    else:
        for line in record["said"]:
            run.say(line)
    return Multiverse(collection, label, tuple(Universe(**one) for one in record["universes"]))


def chain(cleaners: Sequence[Spec], erosion: int, median_mm: float) -> tuple[Spec, ...]:
    """``cleaners`` with this erosion and median in place of their own; where they have none, first and last."""
    ours = {
        "erode": (Spec("erode").having(iterations=erosion),),
        "median": (Spec("median").having(size=f"{median_mm:g}", unit="mm"),) if median_mm else (),
    }
    names = [spec.name for spec in cleaners]
    first, last = (ours[name] if name not in names else () for name in ours)
    between = (spec for own in cleaners for spec in ours.get(own.name, (own,)))
    return (*first, *between, *last)


def _key(checkpoint: Checkpoint, rows: Cohort, calibration: Cohort, run: Run) -> dict[str, Any]:
    return {
        **key_of(checkpoint, rows, None, "native", run),
        "calibration_digest": content_digest(calibration),
        "rules": {rule: str(spec) for rule, spec in RULES.items()},
        "erosion": EROSIONS,
        "median_mm": MEDIANS_MM,
        "min_voxels": FLOORS,
        "grid": GRIDS,
    }


def _measured(checkpoint: Checkpoint, rows: Cohort, calibration: Cohort, run: Run) -> dict[str, Any]:
    """``patients``, ``universes``, scans that ``failed``, and the lines ``said`` on the way, as plain values."""
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        run.say(line)

    labelled = [row for row in rows if row.lesion_mask]
    if not labelled:
        raise DataError("no scan has a lesion mask: there is no DICE", rows.source, NAME_MASKS)
    method = build_method(checkpoint, run)
    chains = [chain(checkpoint.cleaners, *choice) for choice in CHAINS]
    with scratch() as folder:
        tested = score_all(labelled, method, chains, folder / "tested", run, doing="scoring")
        known = score_all(list(calibration), method, chains, folder / "calibration", run, doing="scoring, calibration")
        universes = list(_universes(tested, known, replace(run, say=say)))
    if not universes:
        raise DataError("no rule finds a threshold", calibration.source, "The lines above say why.")
    return {
        "patients": len({scan.subject for scan in tested}),
        "failed": len(labelled) + len(calibration) - len(tested) - len(known),
        "said": lines,
        "universes": [asdict(one) for one in universes],
    }


def _universes(tested: Sequence[ScoredScan], known: Sequence[ScoredScan], run: Run) -> Iterator[Universe]:
    thresholders = {rule: registry.build("thresholders", spec) for rule, spec in RULES.items()}
    missing: Counter[tuple[str, str]] = Counter()
    ways = list(product(enumerate(CHAINS), GRIDS))
    for (place, (erosion, median_mm)), grid in run.track(ways, "choosing thresholds"):
        thresholds = {}
        for rule, thresholder in thresholders.items():
            try:
                scans = for_thresholder(thresholder, tested if rule == ORACLE else known, place, grid)
                thresholds[rule] = float(thresholder.choose(scans).threshold)
            except UadtkError as error:
                missing[rule, error.one_line()] += 1
        if thresholds:
            dice = _dice(ScoredScans(tested, place, grid), list(thresholds.values()))
            for (floor, own), (k, rule) in product(zip(FLOORS, dice, strict=True), enumerate(thresholds)):
                yield Universe(rule, erosion, median_mm, floor, grid, float(own[k]))
    for (rule, reason), times in missing.items():
        run.say(f"rule {rule}: left out for {times} of {len(ways)} cleaned scores: {reason}")


def _dice(scans: ScoredScans, thresholds: Sequence[float]) -> NDArray[np.float64]:
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
    sweep = component_sweep(scan.score_zyx, scan.lesion_zyx, floor, thresholds=thresholds)
    total = sweep.voxels + sweep.positives
    return np.where(total > 0, 2 * sweep.true_positives / np.maximum(total, 1), 1.0)
