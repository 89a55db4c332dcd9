"""Compiled post-processing for score volumes: plain functions over arrays, usable without the rest of uadtk.

Every kernel is one public function here. Its definition is the NumPy/SciPy version of the same name in
``uadtk.kernels._reference``; NumPy arrays run the Numba version, CuPy arrays the CUDA version. Nothing is moved
between host and device behind the caller's back. Importing this package imports neither NumPy nor Numba.
"""

from __future__ import annotations

import importlib
from typing import Any

# public function -> the module of this package that holds it
_HOMES = {
    "median3d": "median",
    "erode": "erosion",
    "curvature_flow": "curvature",
    "aggregate": "residual",
    "Aggregate": "residual",
    "best_dice": "dice",
    "dice_curve": "dice",
    "detection_summary": "dice",
    "average_precision": "dice",
    "roc_auc": "dice",
    "component_sweep": "components",
    "best_component_dice": "components",
    "healthy_fp_threshold": "components",
    "label_components": "labels",
    "label_stats": "labels",
    "quantile": "quantiles",  # not quantile.py: the submodule would hide the function
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
