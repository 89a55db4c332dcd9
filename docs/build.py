"""Build the documentation into build/site: guides, commands, API reference, gallery. python docs/build.py [FOLDER].

Needs pip install "uadtk[docs,preprocess]". Any warning of pdoc is an error.
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
from pages import write_pages

import uadtk
from uadtk.core.volume import Scan
from uadtk.io.read import read_scan
from uadtk.io.results import read_folder
from uadtk.io.write import write_nifti
from uadtk.phantom.shipped import SCAN
from uadtk.report.cohort_page import write_cohort_page

ROOT = Path(__file__).parent.parent
LESION_MM = (28, 20, 30)  # in the phantom's white matter
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


def reference(folder: Path) -> None:
    """The pages of pdoc, with a link back to the guides."""
    for name in MODULES:
        if not name.startswith("!"):
            _resolve(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # of a NamedTuple: its __new__ is generated, so pdoc cannot see the imports of the module it stands in
        warnings.filterwarnings("ignore", message="Error parsing type annotation ForwardRef")
        pdoc.render.configure(
            docformat="numpy", footer_text=f"uadtk {uadtk.__version__}", template_directory=ROOT / "docs" / "pdoc"
        )
        pdoc.pdoc(*MODULES, output_directory=folder)


def gallery(folder: Path) -> None:
    """Pages of phantoms: two reports, the page of their folder, and a follow-up."""
    opened = uadtk.open("implant")
    with tempfile.TemporaryDirectory() as place:
        scans = [Path(place) / f"{name}.nii.gz" for name in ("phantom", "phantom_thick_slices")]
        shutil.copy(SCAN, scans[0])
        fine = read_scan(SCAN)
        write_nifti(scans[1], Scan(fine.voxels[:, :, ::5], fine.affine @ np.diag([1, 1, 5, 1])))
        for _, outcome in opened.segment_cohort(scans, folder, overwrite=True):
            _ = outcome.result  # raises what failed
        later = Path(place) / "phantom_a_year_later.nii.gz"
        write_nifti(later, _a_year_later(fine))
        uadtk.compare(opened.segment(scans[0]), opened.segment(later)).save(folder, overwrite=True)
    write_cohort_page(folder, read_folder(folder))
    for file in folder.iterdir():
        if file.suffix not in (".html", ".png"):
            file.unlink()


def _a_year_later(scan: Scan) -> Scan:
    """The same head, lying differently, with one more lesion."""
    turned = np.eye(4)
    turned[:2, :2] = [[np.cos(0.05), -np.sin(0.05)], [np.sin(0.05), np.cos(0.05)]]
    turned[:3, 3] = 4, -3, 2
    grid = np.moveaxis(np.indices(scan.shape), 0, -1) @ scan.affine[:3, :3].T + scan.affine[:3, 3]
    distance = np.linalg.norm(grid - LESION_MM, axis=-1)
    brighter = 1 + 0.6 / (1 + np.exp((distance - 5) / 0.5))
    return Scan((scan.voxels * brighter).astype(np.float32), turned @ scan.affine)


def _resolve(name: str) -> None:
    """Load the names that a module imports on first use: pdoc looks into its ``__dict__`` alone."""
    module = importlib.import_module(name)
    for public in getattr(module, "__all__", ()):
        setattr(module, public, getattr(module, public))


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "site"
    write_pages(target)
    reference(target / "api")
    gallery(target / "gallery")
    print(target / "index.html")
