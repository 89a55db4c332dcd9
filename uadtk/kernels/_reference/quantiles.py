"""The definition: numpy.quantile of all values in memory."""

from __future__ import annotations

from typing import Any

import numpy as np


def quantile(volumes: Any, q: float, *, masks: Any = None) -> float:
    """As :func:`uadtk.kernels.quantile`, for valid NumPy arrays."""
    arrays = [volumes] if hasattr(volumes, "ndim") else list(volumes() if callable(volumes) else volumes)
    if masks is None or hasattr(masks, "ndim"):
        per_volume = [masks] * len(arrays)
    else:
        per_volume = list(masks() if callable(masks) else masks)
    values = [
        np.asarray(a, np.float32)[... if m is None else np.asarray(m) != 0].ravel()
        for a, m in zip(arrays, per_volume, strict=True)
    ]
    return float(np.quantile(np.concatenate(values), float(q))) + 0.0
