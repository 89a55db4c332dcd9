"""Does `implant` find more in three planes than in axial slices? AUPRC / best DICE of each, and of mean and maximum.

    python benchmarks/planes.py ../shared/data build/planes

The scan is turned so that its coronal or sagittal slices are taken for axial ones, scored with the shipped cleaners,
and turned back. On 1 mm scans alone: the labelled one of the validation split, and phantoms with small lesions.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from _shared import uadtk
from numpy.typing import NDArray

from uadtk.checkpoint import open_checkpoint
from uadtk.core.run import Run
from uadtk.core.volume import Mask, Scan, Volume
from uadtk.io.cohort import Row, read_cohort, read_row
from uadtk.kernels import detection_summary
from uadtk.pipeline.score import Method, build_method, score_map
from uadtk.preparation.geometry import Reorientation
from uadtk.preparation.lesion_free import lesion_of

SCAN = "mslesseg39"
AXES = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path, help="phantoms are written here")
    parser.add_argument("--phantoms", type=int, default=5)
    arguments = parser.parse_args()
    phantoms = arguments.work / "cohort.tsv"
    if not phantoms.exists():
        uadtk("phantom", "--lesions", "ms", "--count", str(arguments.phantoms), "-o", str(arguments.work))
    method = build_method(open_checkpoint("implant"), Run())
    print("| scan | " + " | ".join([*AXES, "mean", "maximum"]) + " |\n|---|" + "---|" * (len(AXES) + 2))
    real = [row for row in read_cohort(arguments.data / "cohort.tsv") if row.subject == SCAN]
    for row in (*real, *read_cohort(phantoms)):
        print(f"| {row.subject} | " + " | ".join(cells(row, method)) + " |", flush=True)


def cells(row: Row, method: Method) -> Iterator[str]:
    run = Run()
    scan, brain = read_row(row, run)
    lesion = lesion_of(row, scan, run)
    assert brain is not None
    assert lesion is not None
    turn = Reorientation.of(scan.affine)
    upright, inside, lesions = (turn.to_ras(volume) for volume in (scan, brain, lesion))
    planes = [score(upright, inside, axes, method) for axes in AXES.values()]
    where = inside.voxels.astype(bool)
    for found in (*planes, np.mean(planes, axis=0), np.max(planes, axis=0)):
        summary = detection_summary(found[where], lesions.voxels.astype(bool)[where])
        yield f"{summary.average_precision:.3f} / {summary.best_dice.dice:.3f}"


def score(scan: Volume, brain: Volume, axes: tuple[int, int, int], method: Method) -> NDArray[np.float32]:
    affine = np.diag([*(scan.spacing_mm[axis] for axis in axes), 1.0])
    turned = [np.ascontiguousarray(volume.voxels.transpose(axes)) for volume in (scan, brain)]
    found = score_map(Scan(turned[0], affine), method, Run(), Mask(turned[1].astype(bool), affine)).score
    return found.voxels.transpose(np.argsort(axes).tolist())


if __name__ == "__main__":
    main()
