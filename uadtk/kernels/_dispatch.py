"""Choose the implementation of a kernel by the type of its arrays."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any


def is_cupy(array: Any) -> bool:
    """True for a CuPy array, without importing CuPy."""
    return type(array).__module__.partition(".")[0] == "cupy"


def implementation(module: str, *arrays: Any) -> ModuleType:
    """The compiled module for these arrays: ``_cupy`` if all are CuPy arrays, ``_numba`` if none is.

    Raises
    ------
    TypeError
        If CuPy and NumPy arrays are mixed: copying data between host and device is left to the caller.
    """
    on_device = {is_cupy(array) for array in arrays if array is not None}
    if len(on_device) > 1:
        raise TypeError(
            "some arrays are on the host and some on the device: convert with cupy.asarray or cupy.asnumpy first"
        )
    backend = "_cupy" if on_device == {True} else "_numba"
    return importlib.import_module(f"uadtk.kernels.{backend}.{module}")
