"""The definition of ``erode``, by SciPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def erode(mask: NDArray[np.generic], iterations: int = 3, *, per_slice: bool = False) -> NDArray[np.bool_]:
    cross = ndimage.generate_binary_structure(3, 1)
    if per_slice:
        cross[0] = cross[2] = False
    eroded = mask.astype(bool)
    for _ in range(iterations):
        eroded = ndimage.binary_erosion(eroded, cross)
    return eroded
