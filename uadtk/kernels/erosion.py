"""Erosion of a brain mask."""

from __future__ import annotations

import operator
from typing import Any

from uadtk.kernels._dispatch import implementation


def erode(mask: Any, iterations: int = 3, *, per_slice: bool = False) -> Any:
    """Erode a mask by ``iterations`` voxels, also at the border of the volume.

    One iteration keeps a voxel if it and its 6 face neighbours are inside; everything beyond the volume is outside.
    Equal to ``scipy.ndimage.binary_erosion(mask, iterations=iterations)`` for ``iterations >= 1``.

    Parameters
    ----------
    mask
        (z, y, x) NumPy or CuPy array of any dtype and strides; non-zero is inside. It is not modified.
    iterations
        Number of voxels to remove, at least 0; 0 returns a copy (SciPy would repeat until nothing changes).
    per_slice
        Erode every slice ``mask[z]`` separately with the 4 in-plane neighbours: for thick slices, where one voxel
        through the plane is several millimetres.

    Returns
    -------
    bool array of the same shape, on the same device.

    Raises
    ------
    ValueError
        If the mask is not 3-D or ``iterations`` is negative.
    TypeError
        If ``iterations`` is not an integer.

    Examples
    --------
    >>> import numpy as np
    >>> int(erode(np.ones((5, 5, 5)), 1).sum()), int(erode(np.ones((5, 5, 5)), 1, per_slice=True).sum())
    (27, 45)
    """
    if mask.ndim != 3:
        raise ValueError(f"mask must be 3-D (z, y, x), got {mask.ndim} dimensions")
    iterations = operator.index(iterations)
    if iterations < 0:
        raise ValueError(f"iterations must be at least 0, got {iterations}")
    return implementation("erosion", mask).erode(mask, iterations, bool(per_slice))
