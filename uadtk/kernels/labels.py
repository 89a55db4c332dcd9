"""Connected components of a mask, and statistics of each."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import numpy as np

from uadtk.kernels._dispatch import implementation

CONNECTIVITIES = (6, 18, 26)


def label_components(mask: Any, connectivity: int = 26, min_size: int = 1) -> tuple[Any, int]:
    """Label the connected components of a mask by descending size, and drop small ones.

    Parameters
    ----------
    mask : array (z, y, x)
        NumPy or CuPy, any dtype and strides; non-zero is inside.
    connectivity : {6, 18, 26}
        Neighbours share a face; a face or an edge; a face, an edge or a corner.
    min_size : int
        Components of fewer voxels are dropped; 1 keeps all.

    Returns
    -------
    labels : int32 array (z, y, x)
        0 outside; 1 to ``count`` inside, by descending size. Components of equal size are ordered by their first
        voxel in the array (z slowest).
    count : int

    Raises
    ------
    ValueError
        Mask not 3-D, another connectivity, ``min_size`` below 1.
    TypeError
        ``connectivity`` or ``min_size`` not an integer.

    Notes
    -----
    Uses connected-components-3d (W. Silversmith, https://doi.org/10.5281/zenodo.5535250), on a GPU
    ``cupyx.scipy.ndimage.label``; the labels are identical.

    Examples
    --------
    >>> import numpy as np
    >>> label_components(np.array([[[1, 0, 1, 1, 0, 1]]]))
    (array([[[2, 0, 1, 1, 0, 3]]], dtype=int32), 3)
    """
    if np.ndim(mask) != 3:
        raise ValueError(f"mask must be 3-D (z, y, x), got {np.ndim(mask)} dimensions")
    connectivity, min_size = check_rule(connectivity, min_size)
    labels, count = implementation("labels", mask).label_components(mask, connectivity, min_size)
    return labels, int(count)


class LabelStats(NamedTuple):
    """One row per label, row 0 for label 1; arrays on the device of the labels.

    ``voxels``: int64 (n,). ``centroid``: float64 (n, 3), the mean index along each array axis, (z, y, x); with an
    affine in the same axis order, ``centroid @ affine[:3, :3].T + affine[:3, 3]`` is in millimetres. ``peak``: float32
    (n,), the highest score. ``mean``: float64 (n,), the mean score.
    """

    voxels: Any
    centroid: Any
    peak: Any
    mean: Any


def label_stats(labels: Any, score: Any) -> LabelStats:
    """Size, centroid, peak and mean score of every label, in one pass.

    Parameters
    ----------
    labels : array (z, y, x) of integers
        0 is background; 1 to n are labels, as from :func:`label_components`. A number in between that does not occur
        has 0 voxels and NaN statistics.
    score : array (z, y, x)
        Read as float32; background voxels are ignored.

    Raises
    ------
    ValueError
        Labels not 3-D, negative or above 2^31 - 1; a score of another shape, or not finite inside a label.
    TypeError
        Labels that are not integers; one array on the host and one on the device.

    Examples
    --------
    >>> import numpy as np
    >>> stats = label_stats(np.array([[[0, 1, 1]]]), np.array([[[9.0, 0.5, 1.0]]]))
    >>> stats.voxels, stats.centroid, stats.peak, stats.mean
    (array([2]), array([[0. , 0. , 1.5]]), array([1.], dtype=float32), array([0.75]))
    """
    if np.ndim(labels) != 3:
        raise ValueError(f"labels must be 3-D (z, y, x), got {np.ndim(labels)} dimensions")
    if labels.dtype.kind not in "iub":
        raise TypeError(f"labels must be integers, got {labels.dtype}")
    if np.shape(score) != np.shape(labels):
        raise ValueError(f"score has shape {np.shape(score)}, labels have shape {np.shape(labels)}")
    kernels = implementation("labels", labels, score)
    xp = kernels.namespace()
    if (
        labels.size
        and labels.dtype != np.bool_
        and (int(labels.min()) < 0 or int(labels.max()) > np.iinfo(np.int32).max)
    ):
        raise ValueError("labels must lie between 0 and 2^31 - 1")
    voxels, places, peak, total = kernels.label_stats(
        xp.ascontiguousarray(labels, dtype=np.int32), xp.ascontiguousarray(score, dtype=np.float32)
    )
    if not bool(xp.isfinite(total).all()):
        raise ValueError("score holds NaN or infinite values inside a label")
    held = xp.where(voxels > 0, voxels.astype(np.float64), np.nan)
    return LabelStats(voxels, places / held[:, None], xp.where(voxels > 0, peak, np.float32(np.nan)), total / held)


def check_rule(connectivity: int, min_size: int) -> tuple[int, int]:
    """Both as int. Raises ValueError for another connectivity or ``min_size`` below 1."""
    connectivity, min_size = operator.index(connectivity), operator.index(min_size)
    if connectivity not in CONNECTIVITIES:
        raise ValueError(f"connectivity must be 6, 18 or 26, got {connectivity}")
    if min_size < 1:
        raise ValueError(f"min_size must be at least 1, got {min_size}")
    return connectivity, min_size
