"""Binary erosion on the device, by cupyx."""

from __future__ import annotations

from typing import Any


def erode(mask: Any, iterations: int, per_slice: bool) -> Any:
    import cupy
    from cupyx.scipy import ndimage

    inside = cupy.array(mask, dtype=cupy.bool_, order="C")
    if inside.size == 0 or iterations == 0:
        return inside
    cross = ndimage.generate_binary_structure(3, 1)
    if per_slice:
        cross[0] = cross[2] = False
    return ndimage.binary_erosion(inside, cross, iterations=iterations)
