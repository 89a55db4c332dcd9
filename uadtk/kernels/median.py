"""Exact 3-D median filter."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from uadtk.kernels._dispatch import implementation

WIDTHS = (1, 3, 5, 7)


def median3d(volume: Any, size: int | Sequence[int] = 5, mask: Any = None, *, threads: int = 1) -> Any:
    """Median of the box around every voxel, exact, with the volume mirrored at its borders.

    Without a mask the values are those of ``scipy.ndimage.median_filter(volume, size, mode="reflect")`` on float32.
    With a mask the values are those of SciPy on the volume with everything outside the mask set to 0, and outside the
    mask the result is 0::

        np.where(mask, scipy.ndimage.median_filter(np.where(mask, volume, 0), size, mode="reflect"), 0)

    Boxes of zeros are skipped, so a residual that is zero outside the brain is several times faster than a dense
    volume, with or without a mask.

    Parameters
    ----------
    volume
        (z, y, x) NumPy or CuPy array of real numbers, any strides; computed and returned in float32. Infinite values
        are allowed.
    size
        Width of the box in voxels, 1, 3, 5 or 7: one for all axes, or one each for (z, y, x), such as (3, 5, 5) for
        slices thicker than the pixel size.
    mask
        Array of the same shape, non-zero inside. Voxels of the volume outside it are ignored.
    threads
        CPU threads; the result does not depend on it. CuPy arrays ignore it.

    Returns
    -------
    float32 array of the same shape, on the same device. If a box holds both 0.0 and -0.0, the sign of a zero median is
    unspecified.

    Raises
    ------
    ValueError
        If the volume is not 3-D or holds NaN inside the mask (a median of NaN has no meaning), the mask has another
        shape, a width is not 1, 3, 5 or 7, or ``threads`` is below 1.
    TypeError
        If the volume is complex, a width is not an integer, or NumPy and CuPy arrays are mixed.

    Notes
    -----
    A sorting network over whole vectors of neighbouring voxels, after A. Adams, *Fast median filters using separable
    sorting networks*, ACM Transactions on Graphics 40(4), 2021.

    The first call for a box size compiles it, which takes seconds; afterwards it is loaded from Numba's cache.

    Examples
    --------
    >>> import numpy as np
    >>> spike = np.zeros((5, 5, 5))
    >>> spike[2, 2, 2] = 9
    >>> float(median3d(spike, 3).max())
    0.0
    """
    kernel = _checked(volume, mask, threads)
    return kernel.median3d(volume, _box(size), mask, threads)


def blended_median3d(
    volume: Any, windows: Sequence[tuple[float, int | Sequence[int]]], mask: Any = None, *, threads: int = 1
) -> Any:
    """Weighted mean of the medians of several boxes, in less time than the medians one by one.

    The sum, in float32 and in this order, of ``weight * median3d(volume, size, mask)``: what lies between two sizes of
    an odd number of voxels.

    Parameters
    ----------
    windows
        (weight, size) of at least one box, with sizes as for :func:`median3d`. Weights are above 0 and add up to 1.
    volume, mask, threads
        As for :func:`median3d`.

    Returns
    -------
    float32 array of the same shape, on the same device.

    Raises
    ------
    ValueError
        As :func:`median3d`; there is no box, or the weights are not above 0 or do not add up to 1 within 1e-5.
    TypeError
        As :func:`median3d`.

    Examples
    --------
    >>> import numpy as np
    >>> spike = np.zeros((5, 5, 5))
    >>> spike[2, 2, 2] = 9
    >>> float(blended_median3d(spike, [(0.25, 1), (0.75, 3)]).max())
    2.25
    """
    kernel = _checked(volume, mask, threads)
    weights = [weight for weight, _ in windows]
    if not weights or min(weights) <= 0 or not abs(sum(weights) - 1) < 1e-5:
        raise ValueError(f"weights must be above 0 and add up to 1, got {weights}")
    return kernel.blended_median3d(volume, [(weight, _box(size)) for weight, size in windows], mask, threads)


def _checked(volume: Any, mask: Any, threads: int) -> ModuleType:
    if volume.ndim != 3:
        raise ValueError(f"volume must be 3-D (z, y, x), got {volume.ndim} dimensions")
    if volume.dtype.kind not in "biuf":
        raise TypeError(f"volume must hold real numbers, got {volume.dtype}")
    if mask is not None and mask.shape != volume.shape:
        raise ValueError(f"mask has shape {mask.shape}, the volume has shape {volume.shape}")
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    return implementation("median", volume, mask)


def _box(size: int | Sequence[int]) -> tuple[int, int, int]:
    widths = tuple(map(operator.index, size)) if isinstance(size, Sequence) else (operator.index(size),) * 3
    if len(widths) != 3 or not set(widths) <= set(WIDTHS):
        raise ValueError(f"size must be 1, 3, 5 or 7, or three of these for (z, y, x), got {size}")
    return widths[0], widths[1], widths[2]
