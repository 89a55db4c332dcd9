"""Compiled post-processing for score volumes: plain functions over arrays, usable without the rest of uadtk.

Every kernel is one public function here. Its definition is the NumPy/SciPy version of the same name in
``uadtk.kernels._reference``; NumPy arrays run the Numba version, CuPy arrays the CUDA version. Nothing is moved
between host and device behind the caller's back. Importing this package imports neither NumPy nor Numba.

The first call of a kernel compiles it, for half a second to three; later processes read it from Numba's cache. Once
compiled, every kernel is faster than its definition from volumes of 8 x 8 x 8 voxels on, so there is no second path for
small ones; only ``quantile`` hands up to 131,072 voxels to ``numpy.quantile``, which is the same to the last bit.
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
