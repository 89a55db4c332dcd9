"""DICE at the operating point, for cleaners that choose findings and outline them: a table to choose them by.

    python benchmarks/outline.py ../shared/data/cohort.tsv [--model implant] [--folds FOLD1 FOLD2] [--every 2]

For each list of cleaners, the threshold is set on the lesion-free tissue (more than 6 mm from known lesions) of the
`lgg` training patients, as `crossfit.py` does for the point `default`: at most 3 findings of 0.05 ml or more in 80 % of
scans, with a confidence of 90 %. With `--folds`, each patient is scored by the checkpoint that has not seen it. Then,
at that threshold: the mean over scans of DICE on the same training patients and on the validation scans, the mean
number of findings in the lesion-free tissue of each, and AUPRC, which has no threshold. The network runs once per scan.
Thick slices of `ms` have their own column.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from cleaner_search import built, labelled
from numpy.typing import NDArray
from train_implant import part_of

from uadtk.checkpoint import Checkpoint, open_checkpoint
from uadtk.core.run import Run
from uadtk.core.thresholder import voxels_in
from uadtk.io.cohort import Cohort, Row, read_cohort, read_row
from uadtk.kernels import detection_summary, healthy_fp_threshold, label_components
from uadtk.metrics.overlap import dice
from uadtk.pipeline.score import Method, build_method, cleaned, raw_slices
from uadtk.preparation import Prepared, prepare
from uadtk.preparation.lesion_free import lesion_of, outside_lesion
from uadtk.thresholders.healthy_fp import rank

FINDINGS, SCANS, CONFIDENCE, MIN_ML = 3, 0.8, 0.9, 0.05
BY_SIZE = "fill prior:power=32,smooth_mm=2,large_mm=8"
RIM, CREST = f"{BY_SIZE},rim_mm=10", "crest:low=0.01,share=0.85"
CHOICES = (
    *("fill prior:power=16,smooth_mm=2", BY_SIZE, f"{BY_SIZE} crest:low=0.1,share=0.9", f"{BY_SIZE} {CREST}"),
    *(f"{BY_SIZE},rim_mm={mm} {CREST}" for mm in (6, 8, 10, 12)),
    *(f"{RIM} crest:low={low},share={share}" for low, share in ((0.003, 0.85), (0.03, 0.85), (0.01, 0.8), (0.01, 0.9))),
    *(
        f"fill prior:power={power},smooth_mm={mm},large_mm=8,rim_mm=10 {CREST}"
        for power, mm in ((24, 2), (40, 2), (48, 2), (32, 1.5), (32, 2.5), (32, 3))
    ),
    f"{RIM}",
    f"erode:iterations=4 {BY_SIZE} {CREST}",
)


@dataclass(frozen=True)
class Case:
    """A scan's prepared slices and raw scores; on its own grid, the lesion and where the brain is free of it."""

    prepared: Prepared
    raw: NDArray[np.float32]
    lesion: NDArray[np.bool_]
    free: NDArray[np.bool_]
    min_voxels: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--model", default="implant")
    parser.add_argument(
        "--folds", nargs="+", default=[], help="Checkpoints trained without a part of the patients each."
    )
    parser.add_argument("--every", type=int, default=1, help="Without folds: use every n-th training patient.")
    parser.add_argument("--cleaners", action="append", help="Specs separated by spaces; repeat for more choices.")
    arguments = parser.parse_args()
    run, cohort = Run(), read_cohort(arguments.cohort)
    model, folds = open_checkpoint(arguments.model), [open_checkpoint(path) for path in arguments.folds]
    groups = chosen(cohort, 1 if folds else arguments.every)
    scored_by = {name: [model] for name in groups}
    if folds:
        scored_by[next(iter(groups))] = [replace(fold, preparation=model.preparation) for fold in folds]
    cases = {name: cases_of(rows, scored_by[name], run) for name, rows in groups.items()}
    print(head("cleaners", cases))
    for cleaners in arguments.cleaners or CHOICES:
        scores = {name: [own_score(one, cleaners) for one in some] for name, some in cases.items()}
        print(line(cleaners, cases, scores), flush=True)


def chosen(cohort: Cohort, every: int) -> dict[str, list[Row]]:
    """Every n-th training patient, first; then the validation scans by collection."""
    train = labelled(cohort, "train", ("lgg",))["lgg"][::every]
    return {f"train lgg ({len(train)})": train, **labelled(cohort)}


def cases_of(rows: list[Row], checkpoints: list[Checkpoint], run: Run) -> list[Case]:
    """Each checkpoint scores its part of the rows."""
    found = []
    for k, checkpoint in enumerate(checkpoints, 1):
        method = build_method(checkpoint, run)
        found += [case(row, method, run) for row in part_of(rows, k, len(checkpoints))]
    return found


def case(row: Row, method: Method, run: Run) -> Case:
    scan, mask = read_row(row, run)
    lesion = lesion_of(row, scan, run)
    assert lesion is not None  # rows without one were left out
    prepared = prepare(scan, method.checkpoint.preparation, run, mask)
    raw, _ = raw_slices(prepared, method, run)
    free = prepared.own_brain.voxels & outside_lesion(scan, lesion)
    return Case(prepared, raw, lesion.voxels, free, voxels_in(MIN_ML, scan.voxel_ml))


def head(of_lines: str, names: Iterable[str]) -> str:
    cells = [of_lines, "threshold", *(f"{name}: DICE, findings, AUPRC" for name in names)]
    return f"| {' | '.join(cells)} |\n" + "|---" * len(cells) + "|"


def line(name: str, cases: dict[str, list[Case]], scores: dict[str, list[NDArray[np.float32]]]) -> str:
    """A row of the table; the first group sets the threshold."""
    first = next(iter(cases))
    needed = sorted(
        healthy_fp_threshold(turned(np.where(one.free, score, 0)), FINDINGS, "components", min_size=one.min_voxels)
        for one, score in zip(cases[first], scores[first], strict=True)
    )
    threshold = needed[rank(len(needed), 1 - SCANS, 1 - CONFIDENCE) - 1]
    cells = [name, f"{threshold:.3f}"]
    for group, some in cases.items():
        measured = defaultdict(list)
        for one, score in zip(some, scores[group], strict=True):
            found = label_components(turned(score) > threshold, connectivity=26, min_size=one.min_voxels)[0].T > 0
            false = label_components(turned(one.free & (score > threshold)), connectivity=26, min_size=one.min_voxels)
            brain = one.prepared.own_brain.voxels
            measured["dice"].append(dice(found, one.lesion))
            measured["false"].append(false[1])
            measured["score"].append(score[brain])
            measured["lesion"].append(one.lesion[brain])
        auprc = detection_summary(measured["score"], measured["lesion"]).average_precision
        cells.append(f"{np.mean(measured['dice']):.3f}, {np.mean(measured['false']):.1f}, {auprc:.3f}")
    return f"| {' | '.join(cells)} |"


def own_score(one: Case, cleaners: str) -> NDArray[np.float32]:
    """On the scan's own grid, 0 outside the brain."""
    score = cleaned(one.raw.copy(), one.prepared, built(cleaners))
    return (one.prepared.to_own_grid(score) * one.prepared.own_brain.voxels).astype(np.float32)


def turned(volume: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(volume.T)


if __name__ == "__main__":
    main()
