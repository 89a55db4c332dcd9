"""The demo patient that ships with uadtk, so that ``uadtk demo`` needs neither nilearn nor a network."""

from __future__ import annotations

import json
from pathlib import Path

from uadtk.core.volume import Mask
from uadtk.io.read import read_mask, read_scan
from uadtk.phantom.lesions import Kind
from uadtk.phantom.synthesis import Phantom

FOLDER = Path(__file__).parent / "demo"
SCAN, LESION, FACTS = FOLDER / "FLAIR.nii.gz", FOLDER / "lesion.nii.gz", FOLDER / "facts.json"
SEED = 1  # with LESIONS, the arguments of `make` that give this patient
LESIONS: Kind = "tumour"


def shipped() -> Phantom:
    """``make(SEED, lesions=LESIONS)`` as made by ``benchmarks/demo_phantom.py``, with its intensities in 255 steps."""
    scan = read_scan(SCAN)
    brain = Mask(scan.voxels > 0, scan.affine)
    return Phantom(scan, brain, read_mask(LESION, scan), json.loads(FACTS.read_text()))
