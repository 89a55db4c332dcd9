"""Edge-preserving denoising by curvature flow."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

from uadtk.kernels._dispatch import implementation


def curvature_flow(
    volume: Any,
    iterations: int = 5,
    time_step: float = 0.125,
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
    *,
    threads: int = 1,
) -> Any:
    """Denoise as ITK's ``CurvatureFlowImageFilter`` does: level sets move at a speed equal to their curvature.

    Noise, whose level sets are small and strongly curved, is removed; long smooth edges remain. Derivatives are central
    differences over the 18 nearest neighbours with zero flux through the border, in float64; voxels with a squared
    gradient below 1e-9 per mm² do not change. Agrees with ITK within 1e-6 for intensities in [0, 1].

    Parameters
    ----------
    volume
        (z, y, x) NumPy or CuPy array of finite real numbers, any strides; computed and returned in float32. Scale it
        to about [0, 1]: the 1e-9 is absolute.
    iterations
        Number of steps, at least 0.
    time_step
        Length of a step in mm², above 0. Stable up to 0.125 for a voxel of 1 mm, and up to an eighth of the square of
        the smallest spacing.
    spacing_mm
        Distance between neighbouring voxels along (z, y, x) in mm; (1, 1, 1) is ITK with ``UseImageSpacing`` off.
    threads
        CPU threads; the result does not depend on it. CuPy arrays ignore it.

    Returns
    -------
    float32 array of the same shape, on the same device.

    Raises
    ------
    ValueError
        If the volume is not 3-D or not finite, ``iterations`` is negative, ``time_step`` or a spacing is not finite
        and above 0, or ``threads`` is below 1.
    TypeError
        If the volume is complex or ``iterations`` is not an integer.

    Notes
    -----
    J. A. Sethian, *Level Set Methods and Fast Marching Methods*, Cambridge University Press, 1999, chapter 16.

    Examples
    --------
    >>> import numpy as np
    >>> noisy = np.zeros((3, 3, 3))
    >>> noisy[1, 1, 1] = 1
    >>> flow = curvature_flow(noisy + np.arange(3), 1)
    >>> bool(flow[1, 1, 1] < 2)
    True
    """
    if volume.ndim != 3:
        raise ValueError(f"volume must be 3-D (z, y, x), got {volume.ndim} dimensions")
    if volume.dtype.kind not in "biuf":
        raise TypeError(f"volume must hold real numbers, got {volume.dtype}")
    iterations = operator.index(iterations)
    if iterations < 0:
        raise ValueError(f"iterations must be at least 0, got {iterations}")
    if not (math.isfinite(time_step) and time_step > 0):
        raise ValueError(f"time_step must be above 0, got {time_step}")
    spacing = tuple(map(float, spacing_mm))
    if len(spacing) != 3 or not all(math.isfinite(h) and h > 0 for h in spacing):
        raise ValueError(f"spacing_mm must be three lengths above 0 for (z, y, x), got {spacing_mm}")
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    kernel = implementation("curvature", volume)
    return kernel.curvature_flow(volume, iterations, float(time_step), spacing, threads)
