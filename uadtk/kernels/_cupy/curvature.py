"""Curvature flow on the device."""

from __future__ import annotations

from typing import Any

import numpy as np

from uadtk.kernels._cupy.source import kernel

_BLOCK = 256


def curvature_flow(
    volume: Any, iterations: int, time_step: float, spacing: tuple[float, float, float], threads: int
) -> Any:
    import cupy

    source = cupy.array(volume, dtype=cupy.float32, order="C")
    if not bool(cupy.isfinite(source).all()):
        raise ValueError("volume is not finite")
    if source.size == 0:
        return source
    target = cupy.empty_like(source)
    scales = [np.float64(1 / h) for h in spacing]
    shape = [np.int32(n) for n in source.shape]
    grid = (-(-source.size // _BLOCK),)
    for _ in range(iterations):
        kernel("curvature", "curvature_flow")(grid, (_BLOCK,), (source, target, np.float64(time_step), *scales, *shape))
        source, target = target, source
    return source
