"""Make the demo patient that ships with uadtk. Needs nilearn, whose ICBM maps are the anatomy:

python benchmarks/demo_phantom.py uadtk/phantom/demo
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

from uadtk.io.write import write_bytes, write_text
from uadtk.phantom import make
from uadtk.phantom.shipped import FACTS, LESION, LESIONS, SCAN, SEED


def main(folder: Path) -> None:
    """Write scan (uint8 with a slope; 0 is outside the brain), lesion mask and facts."""
    made = make(SEED, lesions=LESIONS)
    slope = float(made.scan.voxels.max()) / 255
    stored = np.where(made.brain.voxels, np.clip(np.rint(made.scan.voxels / slope), 1, 255), 0).astype(np.uint8)
    for path, voxels, scale in ((SCAN, stored, slope), (LESION, made.lesion.voxels.astype(np.uint8), 1.0)):
        image = nib.Nifti1Image(voxels, made.scan.affine)
        image.header.set_slope_inter(scale, 0)
        image.header.set_xyzt_units("mm")
        write_bytes(folder / path.name, gzip.compress(image.to_bytes(), 9, mtime=0))
    write_text(folder / FACTS.name, json.dumps(made.facts, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
