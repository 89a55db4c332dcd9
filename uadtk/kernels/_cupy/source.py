"""The CUDA sources of this package, compiled once per process and set of compiler options."""

from __future__ import annotations

import functools
from importlib import resources
from typing import Any


@functools.cache
def module(name: str, *options: str) -> Any:
    """``cuda/<name>.cu`` as a ``cupy.RawModule``; ``options`` as for NVRTC, for example ``-DSIZE=5``.

    CuPy keeps the binary on disk, keyed by source, options and device; this cache saves the lookup.
    ``--fmad=false`` because a fused multiply-add rounds once where the CPU kernels round twice.
    """
    import cupy

    return cupy.RawModule(code=text(name), options=("--std=c++17", "--fmad=false", *options))


def kernel(file: str, name: str, *options: str) -> Any:
    """One kernel of a file, called as ``kernel(grid, block, args)``."""
    return module(file, *options).get_function(name)


def text(name: str) -> str:
    """The source of ``cuda/<name>.cu``."""
    return resources.files("uadtk.kernels._cupy").joinpath("cuda", f"{name}.cu").read_text()
