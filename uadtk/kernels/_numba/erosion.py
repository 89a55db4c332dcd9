"""Binary erosion as AND of shifted flat arrays."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


def erode(mask: NDArray[np.generic], iterations: int, per_slice: bool) -> NDArray[np.bool_]:
    eroded = np.array(mask, dtype=np.bool_, order="C")
    if eroded.size == 0 or iterations == 0:
        return eroded
    source, target = eroded, np.empty_like(eroded)
    for _ in range(iterations):
        erode_once(source.view(np.uint8), target.view(np.uint8), per_slice)
        source, target = target, source
    return source


@njit(nogil=True, cache=True)
def erode_once(mask, out, per_slice):
    _, height, width = mask.shape
    flat = mask.reshape(-1)
    flat_out = out.reshape(-1)
    # A shift of the flat array wraps at the end of a row, a slice: those voxels are faces, and faces always go.
    step = width if per_slice else width * height
    out[:] = 0
    inside = flat.size - 2 * step
    if inside <= 0:
        return
    centre = flat_out[step : step + inside]
    c, l, r = flat[step : step + inside], flat[step - 1 : step - 1 + inside], flat[step + 1 : step + 1 + inside]
    u, d = flat[step - width : step - width + inside], flat[step + width : step + width + inside]
    b, f = flat[:inside], flat[2 * step : 2 * step + inside]
    for i in range(inside):
        centre[i] = c[i] & l[i] & r[i] & u[i] & d[i] & b[i] & f[i]
    out[:, 0] = 0
    out[:, height - 1] = 0
    out[:, :, 0] = 0
    out[:, :, width - 1] = 0
