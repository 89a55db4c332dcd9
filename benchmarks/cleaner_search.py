"""Compare cleaners on validation scans: AUPRC / best DICE per collection; the network runs once per scan.

    python benchmarks/cleaner_search.py ../shared/data/cohort.tsv build/implant/implant-16-0.safetensors \\
        --cleaners "" --cleaners prior:power=2 --cleaners "prior:power=8 median:size=4,unit=mm"

Pooled over the brain voxels of a collection, on each scan's own grid, as in `uadtk evaluate`. A model is a shipped
name, a model without training, a checkpoint, or the `.resume` file of a running training, whose latest weights are
used. The cleaners `own` are those of the checkpoint. The five thick-slice scans of `ms` have their own column, as the
one 1 mm scan has most of the lesion voxels of the collection.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk import checkpoint as checkpoints
from uadtk import registry
from uadtk.checkpoint import Checkpoint
from uadtk.core import options as opts
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.spec import Spec
from uadtk.io.cohort import Cohort, Row, read_cohort, read_row
from uadtk.kernels import detection_summary
from uadtk.pipeline.score import Method, build_method, cleaned, raw_slices
from uadtk.preparation import prepare
from uadtk.preparation.lesion_free import lesion_of

COLLECTIONS = ("lgg", "ms", "wmh")
Scored = list[tuple[NDArray[np.float32], NDArray[np.bool_]]]  # score and truth of each scan's brain voxels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--cleaners", action="append", help="Specs separated by spaces; repeat for more choices.")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--collections", nargs="*", default=COLLECTIONS)
    arguments = parser.parse_args()
    groups = labelled(read_cohort(arguments.cohort), arguments.split, arguments.collections)
    print("model\tcleaners\t" + "\t".join(f"{name} ({len(rows)})" for name, rows in groups.items()))
    for model in arguments.models:
        method = build_method(opened(model), Run())
        chosen = arguments.cleaners or ["own"]
        found = {name: [cells(scores) for scores in scored(rows, method, chosen)] for name, rows in groups.items()}
        for k, cleaners in enumerate(chosen):
            print(Path(model).stem, cleaners or "-", *(row[k] for row in found.values()), sep="\t", flush=True)


def labelled(
    cohort: Cohort, split: str = "validation", collections: Sequence[str] = COLLECTIONS
) -> dict[str, list[Row]]:
    """Rows with a lesion mask by collection, with the five scans from Tabriz as a separate group."""
    groups: dict[str, list[Row]] = {}
    for row in cohort.split(split):
        if not row.lesion_mask or row.collection not in collections:
            continue
        thick = row.collection == "ms" and row.subject.startswith("tabriz")
        groups.setdefault("ms, thick" if thick else str(row.collection), []).append(row)
    return groups


def opened(model: str) -> Checkpoint:
    if not model.endswith(".resume"):
        return checkpoints.open_checkpoint(model)
    from safetensors import safe_open
    from safetensors.torch import save

    with safe_open(model, "pt") as file:
        plan = json.loads(file.metadata()["uadtk-resume"])["plan"]
        weights = {n.removeprefix("model/"): file.get_tensor(n) for n in file.keys() if n.startswith("model/")}  # noqa: SIM118
    recipe = opts.build(Preparation, plan["preparation"], model)
    fresh = checkpoints.new(plan["model"]["name"], plan["model"]["options"], recipe)
    return replace(fresh, weights=save(weights))


def scored(rows: list[Row], method: Method, cleaners: list[str]) -> list[Scored]:
    """Scores and truth of all scans, for each choice of cleaners."""
    every: list[Scored] = [[] for _ in cleaners]
    for row in rows:
        scan, brain_mask = read_row(row, Run())
        truth = lesion_of(row, scan, Run())
        prepared = prepare(scan, method.checkpoint.preparation, Run(), brain_mask)
        raw, _ = raw_slices(prepared, method, Run())
        inside = prepared.own_brain.voxels
        for scores, specs in zip(every, cleaners, strict=True):
            used = method.cleaners if specs == "own" else built(specs)
            own = prepared.to_own_grid(cleaned(raw.copy(), prepared, used))
            scores.append((own[inside], truth.voxels[inside]))  # type: ignore[union-attr]
    return every


def built(specs: str) -> list[Any]:
    """Cleaners of specs separated by spaces."""
    return [registry.build("cleaners", Spec.parse(spec)) for spec in specs.split()]


def cells(scores: Scored) -> str:
    summary = detection_summary([s for s, _ in scores], [t for _, t in scores])
    return f"{summary.average_precision:.3f} / {summary.best_dice.dice:.3f}"


if __name__ == "__main__":
    main()
