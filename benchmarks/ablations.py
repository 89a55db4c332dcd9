"""What each part of the implants' training is worth: train without it, with the same budget, and measure detection.

    python benchmarks/ablations.py ../shared/data build/ablations --epochs 3      # 8 minutes of one core per row

First `train_implant.py` makes the cohort (its phantoms and table, in ``build``). Each row is one training of `implant`
with one part left out, everything else as shipped: the same slices, steps and seed; one row has another seed alone.
Then AUPRC / best DICE on the validation split, of the probability alone and with the shipped cleaners
(`cleaner_search.py`). A finished training is not repeated; an interrupted one resumes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from _shared import finished
from cleaner_search import cells, labelled, scored
from train_implant import SCHEDULE, write_cohort

from uadtk.checkpoint import open_checkpoint
from uadtk.core.run import Run
from uadtk.io.cohort import read_cohort
from uadtk.io.table import write_cohort as write_table
from uadtk.models import implant
from uadtk.networks import lessons, randomise
from uadtk.pipeline.score import build_method

SHIPPED = " ".join(map(str, open_checkpoint("implant").cleaners))


def learned(**changes: Any) -> Callable[[], None]:
    def patch() -> None:
        implant.LEARNED = replace(implant.LEARNED, **changes)

    return patch


def without(module: Any, name: str, instead: Callable[..., Any]) -> Callable[[], None]:
    return lambda: setattr(module, name, instead)


def only(kind: str) -> Callable[[], None]:
    return learned(tasks={kind: 1.0})


def same(image: Any, *_: Any) -> Any:
    return image


ROWS: dict[str, Callable[[], None]] = {
    "everything": lambda: None,
    "everything, another seed": lambda: None,  # what a row differs by without any cause
    "no turns, scales, deformation": without(lessons, "moved", lambda image, masks, *_: (image, masks)),
    "no contrast curves": without(lessons, "recoloured", same),
    "no bright distractors": without(lessons, "distracted", same),
    "no bias field": without(randomise, "shading", lambda brain, *_: torch.ones(len(brain), 1, 1, 1)),
    "no blur or sharpening": without(randomise, "_resolved", same),
    "no noise": without(randomise, "_noisy", same),
    "no errors of skull stripping": without(randomise, "_stripped", lambda image, brain, *_: (image * brain, brain)),
    "implants: added only": only("add"),
    "implants: replacing only": only("replace"),
    "implants: no dark ones": learned(tasks={"add": 0.5, "replace": 0.5}),
    "implants: also shift, blend, deform": learned(
        tasks={"add": 0.35, "replace": 0.35, "dark": 0.1, "shift": 0.1, "blend": 0.05, "deform": 0.05}
    ),
    "implants: no large ones": learned(large=0.0),
    "no slices without implants": learned(empty=0.0),
    "no phantoms": lambda: None,
    "no patients": lambda: None,
}
SEEDS = {"everything, another seed": 1}
COHORTS = {"no phantoms": lambda row: row.collection == "lgg", "no patients": lambda row: row.collection != "lgg"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--train", choices=ROWS, help="Internal: train this row in this process.")
    arguments = parser.parse_args()
    work: Path = arguments.work.resolve()
    if arguments.train:
        train(arguments.train, arguments.data.resolve(), work, arguments.epochs)
        return
    for row in arguments.rows:
        if not finished(output(work, row)):
            subprocess.run([sys.executable, __file__, *sys.argv[1:], "--train", row], check=True)
        print(f"{row}: trained", file=sys.stderr, flush=True)
    groups = labelled(read_cohort(arguments.data / "cohort.tsv"))
    heads = (f"{name} ({len(rows)}), {kind}" for name, rows in groups.items() for kind in ("alone", "cleaned"))
    print("| left out | " + " | ".join(heads) + " |")
    print("|---" * (1 + 2 * len(groups)) + "|")
    for row in arguments.rows:
        method = build_method(open_checkpoint(str(output(work, row))), Run())
        both = [cells(scores) for rows in groups.values() for scores in scored(rows, method, ["", SHIPPED])]
        print(f"| {row} | " + " | ".join(both) + " |", flush=True)


def output(work: Path, row: str) -> Path:
    return work / f"{''.join(c if c.isalnum() else '-' for c in row)}.safetensors"


def train(row: str, data: Path, work: Path, epochs: int) -> None:
    """One row, in a process of its own: the part that is left out is replaced in the imported modules."""
    from uadtk.cli import main as uadtk

    work.mkdir(parents=True, exist_ok=True)
    table = work / "cohort.tsv"
    if not table.exists():
        write_cohort(table, data, work)
    if row in COHORTS:
        whole, table = table, work / f"{output(work, row).stem}.tsv"
        write_table(table, [r for r in read_cohort(whole) if r.split == "validation" or COHORTS[row](r)])
    ROWS[row]()
    long = ("--epochs", epochs, "--patience", epochs, "--average", 2, "--seed", SEEDS.get(row, 0), "--width", 16)
    again = ("--overwrite",) if output(work, row).exists() else ()
    words = ("train", "implant", table, "-o", output(work, row), "--slices", work / "slices", *SCHEDULE, *long, *again)
    print("+ uadtk", *words, file=sys.stderr, flush=True)
    uadtk([*map(str, words)])


if __name__ == "__main__":
    main()
