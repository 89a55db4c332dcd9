"""Binary erosion as the AND of shifted flat arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from uadtk.kernels._numba._jit import compiled


def erode(mask: NDArray[np.generic], iterations: int, per_slice: bool) -> NDArray[np.bool_]:
    eroded = np.array(mask, dtype=np.bool_, order="C")
    if eroded.size == 0 or iterations == 0:
        return eroded
    _, height, width = eroded.shape
    # A shift of the flat array wraps around at the ends of rows and slices: only at border voxels, always eroded.
    step = width if per_slice else width * height
    source, target = eroded, np.empty_like(eroded)
    for _ in range(iterations):
        erode_flat(source.reshape(-1).view(np.uint8), target.reshape(-1).view(np.uint8), width, step)
        target[:, 0] = target[:, -1] = False
        target[:, :, 0] = target[:, :, -1] = False
        source, target = target, source
    return source


@compiled()
def erode_flat(mask, out, width, step):
    """AND of each voxel, its neighbours in y and x, and those ``step`` away; False within ``step`` of either end."""
    inside = max(0, mask.size - 2 * step)
    for i in range(min(step, mask.size)):
        out[i] = 0
        out[mask.size - 1 - i] = 0
    centre = out[step : step + inside]
    c, l, r = mask[step : step + inside], mask[step - 1 : step - 1 + inside], mask[step + 1 : step + 1 + inside]
    u, d = mask[step - width : step - width + inside], mask[step + width : step + width + inside]
    b, f = mask[:inside], mask[2 * step : 2 * step + inside]
    for i in range(inside):
        centre[i] = c[i] & l[i] & r[i] & u[i] & d[i] & b[i] & f[i]
