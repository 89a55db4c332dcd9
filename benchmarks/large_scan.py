"""Peak memory and processor time of `uadtk segment` for scans of 0.5 mm, 512 x 512 x 320, each in a process of its own.

    python benchmarks/large_scan.py

The first is the phantom of `uadtk demo`, each voxel repeated and new noise added: it is skull-stripped, and zeros take
no memory. The second has noise around the brain, too, and its brain mask is given.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uadtk.core.volume import Mask, Scan
from uadtk.io.read import read_scan
from uadtk.io.write import write_nifti
from uadtk.phantom.shipped import SCAN

SHAPE, SPACING_MM = (512, 512, 320), 0.5
AIR = 8  # of a brain that reaches 1000


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        stripped, noisy, brain = (Path(folder) / f"{name}.nii.gz" for name in ("stripped", "noisy", "brain"))
        # A process counts the peak of the one that starts it as its own: this one must stay small.
        maker = get_context("spawn").Process(target=make, args=(stripped, noisy, brain))
        maker.start()
        maker.join()
        for kind, words in (("skull-stripped", [stripped]), ("noise around", [noisy, "--brain-mask", brain])):
            command = ["segment", *map(str, words), "-o", f"{folder}/{kind}", "--threads", "1", "--quiet"]
            process = subprocess.Popen([sys.executable, "-m", "uadtk", *command])
            _, status, used = os.wait4(process.pid, 0)
            if status:
                sys.exit("segment failed")
            seconds = used.ru_utime + used.ru_stime
            print(f"{kind}: {used.ru_maxrss * 1024 / 1e9:.2f} GB at the peak, {seconds:.0f} s of processor time")


def make(stripped: Path, noisy: Path, brain: Path) -> None:
    """The three files."""
    affine = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    voxels = fitted()
    write_nifti(stripped, Scan(voxels, affine))
    write_nifti(brain, Mask(voxels != 0, affine))
    air = 1 + np.abs(AIR * np.random.default_rng(1).standard_normal(SHAPE, dtype=np.float32)).astype(np.int16)
    write_nifti(noisy, Scan(np.where(voxels != 0, voxels, air), affine))


def fitted() -> NDArray[np.int16]:
    """The phantom in the middle of the larger grid, cut where it is larger."""
    scan = read_scan(SCAN)
    found: NDArray[np.int16] = np.zeros(SHAPE, np.int16)
    image = scan.voxels
    for axis, mm in enumerate(scan.spacing_mm):
        image = np.repeat(image, round(mm / SPACING_MM), axis)
    sides = [middle(size, room) for size, room in zip(image.shape, SHAPE, strict=True)]
    image = image[tuple(own for own, _ in sides)]
    noise = np.random.default_rng(0).standard_normal(image.shape, dtype=np.float32)
    scaled = image * (1000 / np.percentile(image, 99.9)) * (1 + 0.03 * noise)
    found[tuple(place for _, place in sides)] = scaled.astype(np.int16)
    return found


def middle(size: int, room: int) -> tuple[slice, slice]:
    """What of ``size`` voxels is kept in ``room``, and where it lies there."""
    kept = min(size, room)
    return tuple(slice((n - kept) // 2, (n - kept) // 2 + kept) for n in (size, room))  # type: ignore[return-value]


if __name__ == "__main__":
    main()
