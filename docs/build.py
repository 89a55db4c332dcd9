"""Build the API reference from the docstrings into build/site: python docs/build.py [FOLDER].

Needs pdoc: pip install "uadtk[docs]". Any warning of pdoc is an error.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path

import pdoc

import uadtk

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


def _resolve(name: str) -> None:
    """Load the names that a module imports on first use: pdoc looks into its ``__dict__`` alone."""
    module = importlib.import_module(name)
    for public in getattr(module, "__all__", ()):
        setattr(module, public, getattr(module, public))


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "site"
    build(target)
    print(target / "index.html")
