"""What ``erode`` computes, by SciPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def erode(mask: NDArray[np.bool_], iterations: int, per_slice: bool) -> NDArray[np.bool_]:
    cross = ndimage.generate_binary_structure(3, 1)
    if per_slice:
        cross[0] = cross[2] = False
    eroded = mask.copy()
    for _ in range(iterations):
        eroded = ndimage.binary_erosion(eroded, cross)
    return eroded
