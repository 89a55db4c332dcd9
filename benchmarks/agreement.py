"""How well two aligned scans agree, of one head and of two: where `uadtk compare` draws its lines.

    python benchmarks/agreement.py ../shared/data/cohort.tsv [--most 12]

Scans of the training split, and those of none. One head: the scan, and itself turned by 6 degrees, shifted by 6 mm,
sampled on 2 mm slices (or its own, where they are thicker) with 3 % noise; and the same with the lower third cut off.
Two heads: the scan and the one before it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from uadtk.core.run import Run
from uadtk.core.volume import Affine, Mask, Scan
from uadtk.io.cohort import read_cohort, read_row
from uadtk.preparation.agreement import Agreement, Head, agreement
from uadtk.preparation.brain import find_brain
from uadtk.preparation.registration import align

Pair = tuple[Scan, Mask]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--most", type=int, default=12)
    arguments = parser.parse_args()
    rows = [r for r in read_cohort(arguments.cohort) if r.split in (None, "train") and r.collection != "whole_head"]
    kept: dict[str, list[Agreement]] = {"one head": [], "one head, cut": [], "two heads": []}
    errors: list[float] = []
    before: Pair | None = None
    for row in (rows[place] for place in np.linspace(0, len(rows) - 1, arguments.most).astype(int)):
        scan, mask = read_row(row, Run())
        own = scan, find_brain(scan, mask)[0]
        again, turn = moved(own)
        cases: list[tuple[str, Pair, Pair, Affine | None]] = [("one head", own, again, turn)]
        cases.append(("one head, cut", own, upper(again), turn))
        if before is not None:
            cases.append(("two heads", before, own, None))
        for name, first, second, truth in cases:
            found = align(*first, *second)
            kept[name].append(agreement(head(first), head(second), found))
            error = "" if truth is None else f"aligned to {off_mm(own[1], found, truth):.2f} mm"
            errors += [off_mm(own[1], found, truth)] if truth is not None else []
            print(row.subject, name, shown(kept[name][-1:]), error, flush=True)
        before = own
    for name, values in kept.items():
        print(f"{name} (n = {len(values)}): {shown(values)}")
    print(f"alignment: median {np.median(errors):.2f} mm, at most {max(errors):.2f} mm")


def head(own: Pair) -> Head:
    """Without findings: lesions count as normal here, which lowers the agreement of two heads, if anything."""
    return Head(*own, Mask(np.zeros(own[0].shape, bool), own[0].affine))


def moved(own: Pair) -> tuple[Pair, Affine]:
    scan, brain = own
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec(np.radians((3.5, -3.5, 3.5))).as_matrix()
    turn[:3, 3] = 3.5, -3.5, 3.5
    spacing = np.array([1.0, 1.0, max(2.0, max(scan.spacing_mm))])
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * [*scan.shape, 1]
    mm = (corners @ scan.affine.T)[:, :3]
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = mm.min(axis=0) - 12
    shape = tuple(np.ceil((np.ptp(mm, axis=0) + 24) / spacing).astype(int))
    back = np.linalg.inv(scan.affine) @ np.linalg.inv(turn) @ affine
    voxels, inside = (
        ndimage.affine_transform(v.astype(np.float32), back[:3, :3], back[:3, 3], shape, order=1)
        for v in (scan.voxels, brain.voxels)
    )
    noise = 0.03 * np.median(scan.voxels[brain.voxels]) * np.random.default_rng(0).standard_normal(shape)
    return (Scan((1.3 * (voxels + noise)).astype(np.float32), affine), Mask(inside > 0.5, affine)), turn


def upper(own: Pair) -> Pair:
    scan, brain = own
    heights = np.flatnonzero(brain.voxels.any(axis=(0, 1)))
    first = int(heights[len(heights) // 3])
    affine = scan.affine.copy()
    affine[:3, 3] += first * affine[:3, 2]
    return Scan(scan.voxels[:, :, first:], affine), Mask(brain.voxels[:, :, first:], affine)


def off_mm(brain: Mask, found: Affine, truth: Affine) -> float:
    points = np.argwhere(brain.voxels)[::100] @ brain.affine[:3, :3].T + brain.affine[:3, 3]
    off = found - truth
    return float(np.linalg.norm(points @ off[:3, :3].T + off[:3, 3], axis=1).max())


def shown(values: Sequence[Agreement]) -> str:
    parts = []
    for name, of in (
        ("detail", lambda one: one.detail),
        ("overlap", lambda one: one.overlap),
        ("covered", lambda one: min(one.covered)),
    ):
        numbers = [of(one) for one in values]
        parts.append(f"{name} {min(numbers):.2f}" + (f" to {max(numbers):.2f}" if len(numbers) > 1 else ""))
    return ", ".join(parts)


if __name__ == "__main__":
    main()
