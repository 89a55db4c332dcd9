"""Detection on labelled scans: AUPRC, ⌈DICE⌉ and DICE at an operating point, per collection, with intervals.

    python benchmarks/detection.py ../shared/data/cohort.tsv --model scalespace --model histeq [--split test] [-o t.md]

Pooled over the voxels of a collection on each scan's own grid, inside the brain mask. Intervals are 95 % bootstrap
over scans (200 draws for the pooled measures, 2,000 for DICE at the point; seed 0), where there are at least three.
⌈DICE⌉ is an oracle: the best threshold, chosen on the scans it is reported on. DICE at the operating point is the mean
over scans, small components removed.
"""

from __future__ import annotations

import argparse
import datetime as dt
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uadtk.checkpoint import Checkpoint, open_checkpoint
from uadtk.core.errors import UsageError
from uadtk.core.run import Run
from uadtk.io.cohort import Cohort, read_cohort, read_row
from uadtk.io.read import read_mask
from uadtk.kernels import average_precision, best_dice, label_components
from uadtk.metrics.overlap import dice
from uadtk.pipeline.score import build_method, score_map

DRAWS = 2000


@dataclass(frozen=True)
class Scored:
    """One scan: scores and truth of its brain voxels, and DICE at the operating point."""

    score: NDArray[np.float32]
    truth: NDArray[np.bool_]
    dice: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("--collections", nargs="*", default=["lgg", "ms", "wmh"])
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    lines = [
        "| collection | n | lesion share | model | AUPRC | ⌈DICE⌉ (oracle) | DICE at the point (mean over scans) |",
        "|---|---|---|---|---|---|---|",
    ]
    cohort = read_cohort(arguments.cohort).split(arguments.split)
    for collection in arguments.collections:
        for model in arguments.model:
            lines.append(_row(collection, model, _score(cohort.where(collection=collection), open_checkpoint(model))))
            print(lines[-1], file=sys.stderr, flush=True)
    command = "python " + " ".join(sys.argv)
    facts = f"{dt.date.today()}, split `{arguments.split}`, {platform.machine()}, Python {platform.python_version()}"
    table = "\n".join([f"`{command}`", f"({facts})", "", *lines]) + "\n"
    print(table)
    if arguments.output:
        arguments.output.write_text(table, encoding="utf-8")


def _score(cohort: Cohort, checkpoint: Checkpoint) -> list[Scored]:
    run = Run()
    method = build_method(checkpoint, run)
    try:
        point = checkpoint.point("p98")
    except UsageError:
        point = None
    scored = []
    for row in cohort:
        if row.lesion_mask is None:
            continue
        scan, brain_mask = read_row(row)
        truth = read_mask(row.lesion_mask, like=scan).voxels
        scoring = score_map(scan, method, run, brain_mask)
        score, brain = scoring.score.voxels, scoring.brain.voxels
        at_point = float("nan")
        if point is not None:
            labels, _ = label_components(score > np.float32(point.threshold), connectivity=26, min_size=8)
            at_point = dice(labels > 0, truth)
        scored.append(Scored(score[brain], truth[brain], at_point))
    return scored


def _row(collection: str, model: str, scans: list[Scored]) -> str:
    share = sum(int(s.truth.sum()) for s in scans) / sum(s.truth.size for s in scans)
    auprc = _with_interval(scans, lambda chosen: average_precision(*_pooled(chosen)))
    oracle = _with_interval(scans, lambda chosen: best_dice(*_pooled(chosen)).dice)
    at_point = _with_interval(scans, lambda chosen: float(np.mean([s.dice for s in chosen])), draws=DRAWS)
    return f"| {collection} | {len(scans)} | {share:.1%} | {Path(model).stem} | {auprc} | {oracle} | {at_point} |"


def _pooled(scans: list[Scored]) -> tuple[list[NDArray[np.float32]], list[NDArray[np.bool_]]]:
    return [s.score for s in scans], [s.truth for s in scans]


def _with_interval(scans: list[Scored], measure: Callable[[list[Scored]], float], draws: int = 200) -> str:
    value = measure(scans)
    if np.isnan(value):
        return "-"
    if len(scans) < 3:
        return f"{value:.3f}"
    rng = np.random.default_rng(0)
    sampled = [measure([scans[i] for i in rng.integers(0, len(scans), len(scans))]) for _ in range(draws)]
    low, high = np.quantile(sampled, [0.025, 0.975])
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
