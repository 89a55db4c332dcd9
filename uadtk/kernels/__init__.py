"""Compiled post-processing for score volumes: plain functions over arrays, usable without the rest of uadtk.

Every kernel is one public function here. Its definition is the NumPy/SciPy version of the same name in
``uadtk.kernels._reference``; NumPy arrays run the Numba version, CuPy arrays the CUDA version. Nothing is copied
between host and device implicitly. Importing this package imports neither NumPy nor Numba.

The first call of a kernel compiles it, which takes 0.5 to 3 s; later processes load it from Numba's cache. Once
compiled, every kernel is faster than its definition for volumes of 8 x 8 x 8 voxels or more, so small volumes need no
separate path. Only ``quantile`` passes up to 131,072 voxels to ``numpy.quantile``, with bit-identical results.
"""

from __future__ import annotations

import importlib
from typing import Any

# public function -> the module of this package that defines it
_MODULES = {
    "median3d": "median",
    "blended_median3d": "median",
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

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
