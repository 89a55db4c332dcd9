"""The definition: every residual in memory, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np


def aggregate(
    image: Any, reconstructions: Any, mask: Any = None, *, polarity: str = "positive", variance: bool = False
) -> Any:
    """As :func:`uadtk.kernels.aggregate`, for valid NumPy arrays."""
    image = np.asarray(image, np.float32).astype(np.float64)
    samples = np.asarray(reconstructions if hasattr(reconstructions, "ndim") else list(reconstructions), np.float32)
    difference = image - (samples[None] if samples.ndim == 3 else samples)
    residual = np.maximum(difference, 0) if polarity == "positive" else np.abs(difference)
    if mask is not None:
        residual = np.where(np.asarray(mask) != 0, residual, 0)
    mean = residual.mean(0).astype(np.float32)
    return (mean, residual.var(0).astype(np.float32)) if variance else mean
