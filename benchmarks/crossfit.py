"""Calibrate the operating points of `implant` on all training patients, each scored by a model that has not seen it.

    python benchmarks/crossfit.py ../shared/data FINAL FOLD1 FOLD2 -o OUT   (checkpoints: .safetensors)

Fold k of n was trained without every n-th `lgg` training patient (`train_implant.py --fold k/n`) and scores those. They
count where they are more than 6 mm from a known lesion; some lesions are not in the masks, so the budgets are on the
safe side. With FINAL as its own and only fold, all patients are scored by the model that was trained on them, and the
points are calibrated in-sample: say so in the card, and check them on scans that it has not seen.

Points: `default` (at most 3 findings of 0.05 ml or more in 80 % of scans, with a confidence of 90 %), `sensitive` (10),
`strict` (1), `p98` and `p99.5` (2 and 0.5 % of voxels above).
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from train_implant import fold_of

from uadtk import checkpoint as checkpoints
from uadtk.core.spec import Spec, parse_all
from uadtk.io.cohort import Cohort
from uadtk.models.implant import Model
from uadtk.pipeline.run import make_run
from uadtk.pipeline.threshold import cross_calibrate

POINTS = {
    "default": "healthy-fp:budget=3 lesions/scan,min_ml=0.05",
    "sensitive": "healthy-fp:budget=10 lesions/scan,min_ml=0.05",
    "strict": "healthy-fp:budget=1 lesion/scan,min_ml=0.05",
    "p98": "p98",
    "p99.5": "p98:percentile=99.5",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("final")
    parser.add_argument("folds", nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--cleaners", default=" ".join(Model.cleaners))
    arguments = parser.parse_args()

    def opened(path: str) -> checkpoints.Checkpoint:
        found = checkpoints.open_checkpoint(path)
        recipe = replace(found.preparation, flatten=True)
        return replace(found, preparation=recipe, cleaners=parse_all(arguments.cleaners.split()))

    final, run = opened(arguments.final), make_run(threads=1)
    parts = [(opened(path), left_out(arguments.data, k, arguments.folds)) for k, path in enumerate(arguments.folds, 1)]
    for name, strategy in POINTS.items():
        point = cross_calibrate(final, parts, Spec.parse(strategy), name, run)
        print(f"{name}\t{point.threshold:.6g}\t{point.target}\t{point.measured}", flush=True)
        final = final.with_point(point)
    final.save(arguments.output)


def left_out(data: Path, k: int, folds: list[str]) -> Cohort:
    """The patients of fold ``k`` without their lists of lesion-free slices: all tissue off known lesions counts."""
    rows = [replace(row, lesion_free_slices=None) for row in fold_of(data, f"{k}/{len(folds)}")]
    return Cohort(tuple(rows), str(data / "cohort.tsv"))


if __name__ == "__main__":
    main()
