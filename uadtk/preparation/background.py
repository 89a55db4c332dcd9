"""The background: the intensity of voxels without tissue.

Raw magnitude images have 0 there. Scans that were normalised before (z-scored, scaled to [-1, 1], stored with an offset
as CT is) have something else, and their tissue may be negative. Preparation counts intensities from the background.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from uadtk.core.volume import Scan

LOWEST_SHARE = 0.001  # the darkest voxels, a few outliers aside
MOST = 0.5  # of the border has one value where the scan is stripped or padded
NEGATIVE_SHARE = 0.01  # of the tissue is darker than the background: more than interpolation leaves there

_FOUND: WeakKeyDictionary[Scan, float] = WeakKeyDictionary()  # of scans in memory: every stage asks for it


def background(scan: Scan) -> float:
    """The background's intensity: the value of most of the border, else the darkest of the border; 0 in raw images.

    Any rescaling ``a * x + b`` of the scan with a > 0 rescales it alike.
    """
    if scan not in _FOUND:
        _FOUND[scan] = _of_border(_border(scan.voxels))
    return _FOUND[scan]


def _of_border(outside: NDArray[np.float32]) -> float:
    half, low = len(outside) // 2, int(LOWEST_SHARE * (len(outside) - 1))
    ordered = np.partition(outside, [low, half])
    most = np.count_nonzero(outside == ordered[half])  # a value that more than half have is the median
    return float(ordered[half] if most > MOST * len(outside) else ordered[low])


def _border(voxels: NDArray[np.float32]) -> NDArray[np.float32]:
    """All voxels of the six faces, 1-D."""
    faces = [voxels[[0, -1]], voxels[:, [0, -1]], voxels[:, :, [0, -1]]]
    return np.concatenate([face.ravel() for face in faces])


def foreground(scan: Scan, level: float) -> NDArray[np.bool_]:
    """Where a stripped scan holds tissue: above ``level``, or anything but ``level`` if much of it is darker."""
    above = scan.voxels > np.float32(level)
    below = sum(int(np.count_nonzero(plane < np.float32(level))) for plane in scan.zyx)
    return scan.voxels != np.float32(level) if below > NEGATIVE_SHARE * np.count_nonzero(above) else above


def dark_end(brain: NDArray[np.float32], level: float) -> float:
    """The intensity that becomes 0, from the voxels of the brain.

    The background, unless much of the brain is darker: then the scan was normalised within its brain mask, so that the
    background is arbitrary, and the darkest fluid is used instead.
    """
    if np.count_nonzero(brain < np.float32(level)) <= NEGATIVE_SHARE * len(brain):
        return level
    place = int(LOWEST_SHARE * (len(brain) - 1))
    return float(np.partition(brain, place)[place])
