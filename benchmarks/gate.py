"""What the gate makes of scans that it should let pass, and of images that it should not: a table of counts.

    python benchmarks/gate.py ../shared/data --real ../shared/real_files [-o benchmarks/gate.md] [--only "FLAIR, lgg"]

Every image is called ``scan.nii.gz``, so that its name does not give it away. One that the reader or the search for a
brain refuses counts as refused. Whole heads need deepbet. On stderr there is a line for each image.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import nilearn
import numpy as np
from scipy import ndimage

from uadtk.checkpoint import open_checkpoint
from uadtk.core.errors import DataError
from uadtk.core.volume import Mask, Scan
from uadtk.io.cohort import read_cohort
from uadtk.io.read import read_mask, read_scan
from uadtk.phantom import make
from uadtk.preparation.brain import find_brain
from uadtk.preparation.gate import first_look, look

LIGHTS = ("green", "amber", "red", "refused")
SEEDS = range(11, 15)


class Image(NamedTuple):
    """``load`` gives the scan, and the brain mask where there is one."""

    kind: str
    name: str
    load: Callable[[], tuple[Scan, Mask | None]]


# kind of image: the lights it may have
PASS, NOT_GREEN, STOP = ("green", "amber"), ("amber", "red", "refused"), ("red", "refused")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--model", default="scalespace")
    parser.add_argument("--only", default="", help="Kinds whose name begins like this.")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    found = images(arguments.data, arguments.real)
    text = table(found, open_checkpoint(arguments.model).statistics, arguments.only)
    print(text)
    if arguments.output:
        arguments.output.write_text(text)


def table(found: Iterable[tuple[tuple[str, ...], Image]], statistics: dict, only: str = "") -> str:
    """Counts of lights by kind of image; a line for each image on stderr."""
    counts: dict[tuple[str, tuple[str, ...]], Counter[str]] = {}
    seconds = []
    for allowed, image in found:
        if not image.kind.startswith(only):
            continue
        light, why, cost_s = judged(image, statistics)
        counts.setdefault((image.kind, allowed), Counter())[light] += 1
        seconds.append(cost_s)
        wrong = "" if light in allowed else "WRONG"
        print(f"{image.kind}\t{image.name}\t{light}\t{wrong}\t{cost_s:.2f} s\t{why}", file=sys.stderr, flush=True)
    lines = [
        f"| images | n | {' | '.join(LIGHTS)} | should be | as it should be |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (kind, allowed), count in counts.items():
        cells = " | ".join(str(count[light]) for light in LIGHTS)
        right = sum(count[light] for light in allowed)
        wish = {PASS: "green or amber", NOT_GREEN: "not green", STOP: "red"}[allowed]
        lines.append(f"| {kind} | {count.total()} | {cells} | {wish} | {right} |")
    return "\n".join(lines) + f"\n\nMedian {np.median(seconds):.2f} s of processor time for an image, brain given.\n"


def judged(image: Image, statistics: dict) -> tuple[str, str, float]:
    """Light, reasons, and seconds without those that finding the brain took."""
    try:
        scan, brain = image.load()
        start = time.process_time()
        gate = first_look(scan, "scan.nii.gz")
        cost_s = time.process_time() - start
        if gate.light != "red":
            brain = brain or find_brain(scan)[0]
            start = time.process_time()
            gate = look(scan, brain, gate, statistics)
            cost_s += time.process_time() - start
    except DataError as error:
        return "refused", error.one_line(), 0.0
    return gate.light, gate.one_line(), cost_s


def images(data: Path, real: Path | None) -> Iterator[tuple[tuple[str, ...], Image]]:
    def file(kind: str, path: Path, mask: Path | None = None) -> Image:
        name = f"{path.parent.name}/{path.name}"

        def load() -> tuple[Scan, Mask | None]:
            scan = read_scan(path)
            return scan, read_mask(mask, scan) if mask else None

        return Image(kind, name, load)

    for row in read_cohort(data / "cohort.tsv"):
        kind = f"FLAIR, {row.collection}" + (f", {row.split}" if row.collection == "lgg" else "")
        yield PASS, file(kind, row.image, row.brain_mask)
    for name, kind in (("t1", "T1"), ("t2", "T2 and PD")):
        for path in sorted(data.glob(f"[mh]*/*/{name}.nii.gz")):
            yield STOP, file(kind, path, path.with_name("brainmask.nii.gz"))
    for name, kind in (("t1", "T1"), ("t2", "T2 and PD"), ("pd", "T2 and PD")):
        yield STOP, file(kind, data / f"atlas/sri24_{name}.nii.gz", data / "atlas/sri24_tissues.nii.gz")
    for path in sorted((data / "labels").glob("*.nii.gz")):
        yield STOP, file("label maps", path)
    for path in sorted(data.glob("[mwh]*/*/*mask.nii.gz")) + sorted(data.glob("[mw]*/*/lesion.nii.gz")):
        yield STOP, file("masks", path)
    for path in sorted(real.glob("*.nii.gz")) if real else ():
        yield NOT_GREEN, file("real files that are no FLAIR", path)
    statistical = Path(nilearn.__file__).parent / "datasets/data/image_10426.nii.gz"
    yield STOP, file("statistical maps", statistical)
    yield from phantoms()


def phantoms() -> Iterator[tuple[tuple[str, ...], Image]]:
    """Good ones, and ones that are spoilt in one way."""
    for seed in SEEDS:
        kinds = {
            "tumour": make(seed, lesions="tumour"),
            "MS": make(seed, lesions="ms"),
            "8 mm slices": make(seed, lesions="ms", slice_mm=8.0),
            "healthy": make(seed),
        }
        for kind, phantom in kinds.items():
            yield PASS, _phantom(f"phantoms, {kind}", seed, phantom.scan.voxels, phantom.scan)
        scan, brain = kinds["tumour"].scan, kinds["tumour"].brain.voxels
        good, rng = scan.voxels, np.random.default_rng(seed)
        level = float(np.median(good[brain]))
        z = np.where(brain, (good - good[brain].mean()) / good[brain].std(), 0)
        yield PASS, _phantom("phantoms, tumour, offset of 1000 around the brain too", seed, good + 1000, scan, brain)
        yield PASS, _phantom("phantoms, tumour, z-scored", seed, z, scan, brain)
        yield STOP, _phantom("phantoms, inverted", seed, np.where(brain, good.max() * 1.1 - good, 0), scan)
        for strength in (0.3, 0.6):
            noise = level * strength * rng.standard_normal(good.shape)
            yield NOT_GREEN, _phantom(f"phantoms, noise of {strength:.0%}", seed, np.abs(good + noise) * brain, scan)
        for strength in (0.3, 0.5):
            ghost = good + strength * (np.roll(good, good.shape[1] // 3, 1) + np.roll(good, -good.shape[1] // 3, 1))
            yield NOT_GREEN, _phantom(f"phantoms, ghosts of {strength:.0%}", seed, ghost * brain, scan)
        shaken = good * np.where(np.arange(good.shape[2]) % 2, 0.75, 1.0)
        yield NOT_GREEN, _phantom("phantoms, every second slice darker", seed, shaken, scan)
        for side, cut in (("left", np.s_[: good.shape[0] // 2]), ("lower", np.s_[:, :, : good.shape[2] // 2])):
            halved = good.copy()
            halved[cut] = 0
            yield NOT_GREEN, _phantom(f"phantoms, without the {side} half", seed, halved, scan)
        upper = good[:, :, good.shape[2] // 2 :]
        yield NOT_GREEN, _phantom("phantoms, field ends at half height", seed, upper, scan)
        smaller = Scan(good, scan.affine @ np.diag([0.6, 0.6, 0.6, 1]))
        yield NOT_GREEN, _phantom("phantoms, 0.6 of the size", seed, good, smaller)
        blobs = ndimage.gaussian_filter(rng.standard_normal(good.shape), 4)
        blobs = (blobs / blobs.std() * brain).astype(np.float32)
        yield STOP, _phantom("statistical maps", seed, blobs, scan, brain)
        yield STOP, _phantom("statistical maps", seed, np.where(np.abs(blobs) > 1.5, blobs, 0), scan)


def _phantom(kind: str, seed: int, voxels: np.ndarray, like: Scan, brain: np.ndarray | None = None) -> Image:
    mask = None if brain is None else Mask(brain, like.affine)
    scan = Scan(np.asarray(voxels, dtype=np.float32), like.affine)
    return Image(kind, f"seed {seed}", lambda: (scan, mask))


if __name__ == "__main__":
    main()
