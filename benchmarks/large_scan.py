"""Peak memory and processor time of `uadtk segment` for a scan of 0.5 mm, 512 x 512 x 320, as one process.

    python benchmarks/large_scan.py

The scan is the phantom of `uadtk demo`, each voxel repeated and new noise added.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uadtk.core.volume import Scan
from uadtk.io.read import read_scan
from uadtk.io.write import write_nifti
from uadtk.phantom.shipped import SCAN

SHAPE, SPACING_MM = (512, 512, 320), 0.5


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.nii.gz"
        write_nifti(path, Scan(fitted(), np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])))
        words = ["segment", str(path), "-o", f"{folder}/out", "--threads", "1", "--quiet"]
        subprocess.run([sys.executable, "-m", "uadtk", *words], check=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{used.ru_maxrss / 1e6:.2f} GB at the peak, {used.ru_utime + used.ru_stime:.0f} s of processor time")


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
