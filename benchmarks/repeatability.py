"""How much the volume of a finding changes in a repeated scan, where nothing has changed: what `uadtk compare` goes by.

    python benchmarks/repeatability.py uadtk/metrics/repeatability.json [--model implant] [--heads 36]

Each phantom head with its lesions is scanned twice, with slices of 3 mm: other noise, bias field, scale, head position
(up to 8 degrees and 8 mm). Both scans are segmented as any scan, aligned and matched as by `uadtk compare`; the file
lists the volumes of each finding, 0 where it is there only once. Printed: per head the error of the alignment at the
brain's voxels and how well the two scans agree; at the end the limits that `uadtk.metrics.repeatability` derives.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import re
import shlex
import sys
import time
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

import uadtk
from uadtk.core.volume import Affine, Scan
from uadtk.interface import OpenModel
from uadtk.io.write import write_text
from uadtk.metrics.change import Change, Marked, changes
from uadtk.metrics.repeatability import Repeatability, Size
from uadtk.phantom import Phantom, make
from uadtk.phantom.fields import smooth_field
from uadtk.phantom.lesions import Kind, averaged
from uadtk.preparation.agreement import Head, agreement
from uadtk.preparation.registration import align

SLICE_MM, THIN = 3.0, 3  # slices, each the mean of so many
_NUMBERS = re.compile(r"\[[^][a-z]*\]")  # a list on one line
TURN_DEGREES, SHIFT_MM = 8.0, 8.0
NONE = Repeatability("", 0.0, 0, "", (), (Size(1.0, 1, 0, 0.0),))  # matching does not depend on it
LARGE_ML = (1.0, 80.0)  # of two heads in three, which have one lesion; the third has many
NOISE, BIAS = (0.015, 0.06), (0.01, 0.09)  # ranges of `uadtk phantom`


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", default="implant")
    parser.add_argument("--heads", type=int, default=36)
    arguments = parser.parse_args()
    model = uadtk.open(arguments.model, threads=1)
    found: list[Change] = []
    for seed in range(1000, 1000 + arguments.heads):
        found += repeated(model, seed)
        point = model.checkpoint.point(None)
        record = {
            "command": shlex.join(["python", *sys.argv]),
            "model": arguments.model,
            "checkpoint": model.checkpoint.digest,
            "point": {"name": point.name, "threshold": point.threshold},
            "heads": seed - 999,
            "slices_mm": [1.0, 1.0, SLICE_MM],
            "date": dt.date.today().isoformat(),
            "pairs_ml": sorted([round(c.before_ml, 4), round(c.after_ml, 4)] for c in found),
        }
        write_text(
            arguments.output,
            _NUMBERS.sub(lambda listed: " ".join(listed[0].split()), json.dumps(record, indent=1)) + "\n",
        )
    for size in Repeatability.of(record).sizes:
        print(size)


def repeated(model: OpenModel, seed: int) -> list[Change]:
    """The findings of a head that is scanned twice; all differences are errors."""
    start = time.monotonic()
    rng = np.random.default_rng(seed)
    large_ml = float(np.exp(rng.uniform(*np.log(LARGE_ML))))
    kind: Kind = "ms" if seed % 3 == 0 else "tumour"
    head = make(seed, lesions=kind, lesion_ml=None if kind == "ms" else large_ml, noise=0.0, bias=0.0)
    (first, true_first), (second, true_second) = scanned(head, rng), scanned(head, rng)
    one, two = (model.segment(scan).segmentation for scan in (first, second))
    own, its = one.scoring.brain, two.scoring.brain
    to_after = align(first, own, second, its)
    off = to_after @ true_first - true_second
    points = np.argwhere(head.brain.voxels)[::50] @ head.scan.affine[:3, :3].T + head.scan.affine[:3, 3]
    error = np.linalg.norm(points @ off[:3, :3].T + off[:3, 3], axis=1)
    agreed = agreement(Head(first, own, one.mask), Head(second, its, two.mask), to_after)
    found = changes(Marked(one.components, own), Marked(two.components, its), to_after, NONE)
    once = sum(not c.before or not c.after for c in found)
    apart = sum(any(c.apart_ml) for c in found)
    print(
        f"{seed}: {len(one.findings)} and {len(two.findings)} findings, {once} once, {apart} with a piece apart; "
        f"aligned to {error.mean():.2f} mm (at most {error.max():.2f}); detail {agreed.detail:.2f}, overlap "
        f"{agreed.overlap:.3f}; {time.monotonic() - start:.0f} s",
        flush=True,
    )
    return found


def scanned(head: Phantom, rng: np.random.Generator) -> tuple[Scan, Affine]:
    """A scan of a noise-free head in another position, and the transform from the head's mm to the scan's."""
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec(rng.uniform(-1, 1, 3) * np.radians(TURN_DEGREES) / np.sqrt(3)).as_matrix()
    turn[:3, 3] = rng.uniform(-1, 1, 3) * SHIFT_MM / np.sqrt(3)
    reach = np.ceil(np.array(head.scan.shape) * head.scan.spacing_mm * 1.1)
    shape = np.array([*reach[:2], THIN * np.ceil(reach[2] / SLICE_MM)]).astype(int)
    thin = np.diag([1.0, 1.0, SLICE_MM / THIN, 1.0])
    middle = head.scan.affine @ (*(np.array(head.scan.shape) - 1) / 2, 1.0)
    thin[:3, 3] = middle[:3] - thin[:3, :3] @ ((shape - 1) / 2)
    to_head = np.linalg.inv(head.scan.affine) @ np.linalg.inv(turn) @ thin
    voxels = averaged(
        ndimage.affine_transform(head.scan.voxels, to_head[:3, :3], to_head[:3, 3], tuple(shape), order=1), THIN
    )
    brain = averaged(
        ndimage.affine_transform(
            head.brain.voxels.astype(np.float32), to_head[:3, :3], to_head[:3, 3], tuple(shape), order=1
        ),
        THIN,
    )
    thick = thin.copy()
    thick[:3, 2] *= THIN
    thick[:3, 3] += thin[:3, 2] * (THIN - 1) / 2
    white = np.float32(np.median(head.scan.voxels[head.brain.voxels]))
    noise = white * np.float32(np.exp(rng.uniform(*np.log(NOISE))))
    voxels *= np.exp(np.float32(rng.uniform(*BIAS)) * smooth_field(rng, voxels.shape, (90, 90, 90 / SLICE_MM)))
    real, imaginary = (noise * rng.standard_normal(voxels.shape, dtype=np.float32) for _ in range(2))
    voxels = np.hypot(voxels + real, imaginary) * np.float32(rng.uniform(0.5, 1.5))
    return Scan(np.where(brain > 0.5, voxels, 0).astype(np.float32), thick), turn


if __name__ == "__main__":
    main()
