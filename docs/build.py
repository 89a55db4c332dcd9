"""Build the API reference from the docstrings, and a gallery, into build/site: python docs/build.py [FOLDER].

Needs pdoc: pip install "uadtk[docs]". Any warning of pdoc is an error.
"""

from __future__ import annotations

import importlib
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pdoc

import uadtk
from uadtk.core.volume import Scan
from uadtk.io.read import read_scan
from uadtk.io.write import write_nifti
from uadtk.phantom.shipped import SCAN
from uadtk.report.cohort_page import write_cohort_page

ROOT = Path(__file__).parent.parent
# What plugins and scripts may rely on. A leading "!" leaves out what is private or shown by its parent.
MODULES = (
    "uadtk.interface",
    "uadtk.result",
    "uadtk.plugin",
    "uadtk.hookspecs",
    "uadtk.kernels",
    r"!uadtk\.kernels\..*",
    "uadtk.networks",
    "uadtk.testing",
)


def build(folder: Path) -> None:
    for name in MODULES:
        if not name.startswith("!"):
            _resolve(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # of a NamedTuple: its __new__ is generated, so pdoc cannot see the imports of the module it stands in
        warnings.filterwarnings("ignore", message="Error parsing type annotation ForwardRef")
        pdoc.render.configure(docformat="numpy", footer_text=f"uadtk {uadtk.__version__}")
        pdoc.pdoc(*MODULES, output_directory=folder)


def gallery(folder: Path) -> None:
    """Pages as ``uadtk segment`` makes them of a folder: of the demo phantom, and of the same head in thick slices."""
    opened = uadtk.open("implant")
    with tempfile.TemporaryDirectory() as place:
        scans = [Path(place) / f"{name}.nii.gz" for name in ("phantom", "phantom_thick_slices")]
        shutil.copy(SCAN, scans[0])
        fine = read_scan(SCAN)
        write_nifti(scans[1], Scan(fine.voxels[:, :, ::5], fine.affine @ np.diag([1, 1, 5, 1])))
        for _, outcome in opened.segment_cohort(scans, folder, overwrite=True):
            _ = outcome.result  # raises what failed
    write_cohort_page(folder)
    for file in folder.iterdir():
        if file.suffix not in (".html", ".png"):
            file.unlink()


def _resolve(name: str) -> None:
    """Load the names that a module imports on first use: pdoc looks into its ``__dict__`` alone."""
    module = importlib.import_module(name)
    for public in getattr(module, "__all__", ()):
        setattr(module, public, getattr(module, public))


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "site"
    build(target)
    gallery(target / "gallery")
    print(target / "index.html")
