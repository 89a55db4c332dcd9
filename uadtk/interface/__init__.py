"""The Python interface: what the commands do, for notebooks and scripts.

    import uadtk

    model = uadtk.open("scalespace")
    result = model.segment("scan.nii.gz")       # or a nibabel image, or an array with its affine
    result                                      # in Jupyter: a picture and the findings
    pandas.DataFrame(result.findings)
    result.save("out/")

    model.threshold("healthy.tsv", budget="1 lesion/scan")
    model.save("ours.safetensors")
    uadtk.evaluate(model, "cohort.tsv", split="test")
    uadtk.train("ae", "cohort.tsv", "ae.safetensors", epochs=20, latent=64)

    uadtk.compare("before.nii.gz", "after.nii.gz").changes  # what has changed between two scans of one person

Scorers, cleaners and strategies are written as on the command line: ``"restoration:steps=100"``.
"""

from __future__ import annotations

import gc
from importlib import import_module
from typing import TYPE_CHECKING

__all__ = ["Comparison", "Evaluated", "OpenModel", "Result", "compare", "evaluate", "open", "train"]

if TYPE_CHECKING:
    from uadtk.interface.compared import Comparison, compare
    from uadtk.interface.evaluated import Evaluated, evaluate
    from uadtk.interface.opened import OpenModel, open
    from uadtk.interface.trained import train
    from uadtk.result import Result

_FROM = {
    **dict.fromkeys(("Comparison", "compare"), "compared"),
    **dict.fromkeys(("Evaluated", "evaluate"), "evaluated"),
    **dict.fromkeys(("OpenModel", "Result", "open"), "opened"),
    "train": "trained",
}


def __getattr__(name: str) -> object:
    """Imported when they are used: no command needs all of it.

    Without garbage collection meanwhile, which would look through the objects of torch several times.
    """
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    collecting = gc.isenabled()
    gc.disable()
    try:
        return getattr(import_module(f"{__name__}.{_FROM[name]}"), name)
    finally:
        if collecting:
            gc.enable()


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
