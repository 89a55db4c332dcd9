"""Make ``uadtk/preparation/tissues.npz``: fluid, grey and white matter of the average brain, on 4 mm voxels.

    python benchmarks/tissue_prior.py

From the ICBM 2009a nonlinear symmetric atlas as nilearn carries it (grey and white matter, and a T1 without skull).
What is brain and neither of the two is fluid. Stored as uint8 (fluid, grey, white; x, y, z in RAS+), 255 = all of it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

import uadtk
from uadtk.io.icbm import icbm_map
from uadtk.kernels._box import bounding_box

STEP = 4


def main() -> None:
    grey, white, head = (icbm_map(kind).voxels / 255 for kind in ("gm", "wm", "t1"))
    brain = ndimage.binary_fill_holes(head > 0)
    total = np.maximum(grey + white, 1)
    parts = np.stack([np.where(brain, 1 - (grey + white) / total, 0), grey / total, white / total])
    parts = parts[(slice(None), *bounding_box(brain))]
    parts = np.pad(parts, [(0, 0), *((0, -n % STEP) for n in parts.shape[1:])])
    x, y, z = (n // STEP for n in parts.shape[1:])
    coarse = parts.reshape(3, x, STEP, y, STEP, z, STEP).mean(axis=(2, 4, 6))
    path = Path(uadtk.__file__).parent / "preparation" / "tissues.npz"
    np.savez_compressed(path, tissues=np.round(255 * coarse).astype(np.uint8), spacing_mm=np.float64(STEP))
    print(path, coarse.shape, f"{path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
