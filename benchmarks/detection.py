"""Detection on labelled scans: AUPRC, ⌈DICE⌉ and DICE at an operating point, per collection, with intervals.

    python benchmarks/detection.py ../shared/data/cohort.tsv --model scalespace --model histeq [--split test] [-o t.md]

By ``uadtk.pipeline.evaluate``: pooled over the voxels of a collection on each scan's own grid, inside the brain mask.
Intervals are 95 % bootstrap over patients, where there are at least two. ⌈DICE⌉ is an oracle: the best threshold,
chosen on the scans it is reported on. DICE at the operating point (`default`, or `p98` where there is none) is the mean
over patients, small components removed.
"""

from __future__ import annotations

import argparse
import datetime as dt
import platform
import sys
from pathlib import Path

from uadtk.checkpoint import open_checkpoint
from uadtk.core.run import Run
from uadtk.core.thresholder import named_point
from uadtk.io.cohort import read_cohort
from uadtk.metrics.measures import Measure
from uadtk.pipeline.evaluate import Evaluation, evaluate


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
    cohort, run = read_cohort(arguments.cohort).split(arguments.split), Run()
    for collection in arguments.collections:
        for model in arguments.model:
            checkpoint = open_checkpoint(model)
            point = named_point(checkpoint.points, "default") or named_point(checkpoint.points, "p98")
            evaluation = evaluate(checkpoint, cohort.where(collection=collection), point, run)
            lines.append(_row(collection, model, evaluation))
            print(lines[-1], file=sys.stderr, flush=True)
    command = "python " + " ".join(sys.argv)
    facts = f"{dt.date.today()}, split `{arguments.split}`, {platform.machine()}, Python {platform.python_version()}"
    table = "\n".join([f"`{command}`", f"({facts})", "", *lines]) + "\n"
    print(table)
    if arguments.output:
        arguments.output.write_text(table, encoding="utf-8")


def _row(collection: str, model: str, evaluation: Evaluation) -> str:
    n = sum(scan.labelled for scan in evaluation.scans)
    cells = " | ".join(_cell(evaluation.measures.get(name)) for name in ("auprc", "dice_oracle", "dice"))
    return f"| {collection} | {n} | {evaluation.lesion_share:.1%} | {Path(model).stem} | {cells} |"


def _cell(measure: Measure | None) -> str:
    if measure is None:
        return "-"
    interval = "" if measure.interval is None else " [{:.3f}, {:.3f}]".format(*measure.interval)
    return f"{measure.value:.3f}{interval}"


if __name__ == "__main__":
    main()
