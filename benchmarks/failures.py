"""The worst scans of each collection at an operating point, as pictures to look at and a table.

    python benchmarks/failures.py ../shared/data/cohort.tsv -o build/failures [--model implant] [--split test]

Per scan: DICE; the share of the lesion that was marked, and of the mark that is lesion; lesions found; false findings
with their volume, and the place of the largest. Two pictures each: the slice with most of the lesion, and the one with
the largest false finding. They show patients' scans: keep them out of the repository.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cleaner_search import COLLECTIONS
from numpy.typing import NDArray

import uadtk
from uadtk.core.finding import Segmentation
from uadtk.core.volume import Mask
from uadtk.interface import OpenModel
from uadtk.io.cohort import Row, read_cohort
from uadtk.metrics.lesions import tally_lesions
from uadtk.metrics.overlap import dice
from uadtk.preparation.lesion_free import lesion_of
from uadtk.report.mosaic import picture
from uadtk.report.place import places

COLUMNS = (
    *("scan", "lesion ml", "DICE", "lesion marked", "mark right"),
    *("lesions found", "false (ml)", "largest false finding"),
)


@dataclass(frozen=True)
class Failure:
    dice: float
    cells: tuple[str, ...]
    pictures: dict[str, bytes]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", default="implant")
    parser.add_argument("--split", default="test")
    parser.add_argument("--worst", type=int, default=5)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    model = uadtk.open(arguments.model)
    failures = defaultdict(list)
    for row in read_cohort(arguments.cohort).split(arguments.split):
        if row.lesion_mask and row.collection in COLLECTIONS:
            failures[row.collection].append(failure(row, model))
    for name, some in failures.items():
        print(f"\n{name}, {arguments.split}: the worst of {len(some)}\n\n| " + " | ".join(COLUMNS) + " |")
        print("|---" * len(COLUMNS) + "|")
        for one in sorted(some, key=lambda one: one.dice)[: arguments.worst]:
            print("| " + " | ".join(one.cells) + " |")
            for kind, png in one.pictures.items():
                (arguments.output / f"{name}-{one.cells[0]}-{kind}.png").write_bytes(png)


def failure(row: Row, model: OpenModel) -> Failure:
    found = model.segment(row.image, brain_mask=row.brain_mask).segmentation
    lesion = lesion_of(row, found.scoring.scan, model.run)
    assert lesion is not None  # rows without one were left out
    mask, truth = found.mask.voxels, lesion.voxels
    both = int((mask & truth).sum())
    lesions, hit, components, true = tally_lesions(mask, truth, lesion.voxel_ml).sum(axis=1).tolist()
    wrong, false_ml, where = largest_false(found, truth)
    pictures = {"lesion": picture(found, lesion)}
    if wrong is not None:
        pictures["false"] = picture(found, Mask(wrong, lesion.affine))
    overlap = dice(mask, truth)
    cells = (
        *(row.subject, f"{truth.sum() * found.scoring.scan.voxel_ml:.1f}", f"{overlap:.2f}"),
        *(f"{both / max(1, truth.sum()):.0%}", f"{both / max(1, mask.sum()):.0%}"),
        *(f"{hit} of {lesions}", f"{components - true} ({false_ml:.1f})", where),
    )
    return Failure(overlap, cells, pictures)


def largest_false(found: Segmentation, truth: NDArray[np.bool_]) -> tuple[NDArray[np.bool_] | None, float, str]:
    """The largest finding without a voxel of lesion, the volume of all such, and where it lies."""
    labels = found.components.voxels
    true = set(np.unique(labels[truth]).tolist())
    false = [finding for finding in found.findings if finding.label not in true]
    if not false:
        return None, 0.0, "-"
    worst = max(false, key=lambda finding: finding.volume_ml)
    where = f"{worst.volume_ml:.2f} ml: {places(found.scoring.brain, [worst.peak_mm])[0]}"
    return labels == worst.label, sum(finding.volume_ml for finding in false), where


if __name__ == "__main__":
    main()
