"""Residual volumes: what a model of normal anatomy could not reconstruct, averaged over samples, planes and scales.

The anomaly score of reconstruction methods is max(x - x̂, 0) (lesions brighter than normal tissue, as in FLAIR) or
|x - x̂| (Baur et al., Autoencoders for unsupervised anomaly segmentation in brain MR images, MedIA 2021); Monte-Carlo
methods average it over N reconstructions and use its variance (Pawlowski et al., MIDL 2018).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from uadtk.kernels import _dispatch

Polarity = Literal["positive", "absolute"]
# max(d, low * d) is max(d, 0) or |d|
_LOW = {"positive": 0.0, "absolute": -1.0}


def aggregate(
    image: Any,
    reconstructions: Any,
    mask: Any = None,
    *,
    polarity: Polarity = "positive",
    variance: bool = False,
) -> Any:
    """Mean residual over N reconstructions of one volume, and on request its variance.

    Parameters
    ----------
    image : array (z, y, x)
        The volume x, in the units of the reconstructions. Any dtype and strides; computed as float32.
    reconstructions : array (z, y, x) or (N, z, y, x), or iterable of arrays (z, y, x)
        The reconstructions x̂. An iterable is walked once, so N volumes never need to be in memory together.
    mask : array (z, y, x), optional
        Voxels where it is non-zero count; everywhere else the result is 0, whatever the inputs hold (NaN too).
    polarity : {"positive", "absolute"}
        The residual: ``max(x - x̂, 0)`` or ``|x - x̂|``.
    variance : bool
        Return ``(mean, variance)`` instead of ``mean``: the variance over the N residuals, divided by N.

    Returns
    -------
    float32 array (z, y, x), or two of them
        Sums are kept in float64: the result is the float64 one rounded once, whatever N and the order.

    Raises
    ------
    ValueError
        Image not 3-D, shapes that differ, unknown polarity, no reconstruction, non-finite values inside the mask.
    TypeError
        Host and device arrays mixed.

    Examples
    --------
    >>> import numpy as np
    >>> aggregate(np.ones((2, 3, 4)), np.zeros((5, 2, 3, 4))).shape
    (2, 3, 4)
    """
    if hasattr(reconstructions, "ndim") and reconstructions.ndim == 4:
        total = Aggregate(image, mask, polarity=polarity, variance=variance)
        return total._at_once(reconstructions)
    many: Iterable[Any] = [reconstructions] if hasattr(reconstructions, "ndim") else reconstructions
    total = Aggregate(image, mask, polarity=polarity, variance=variance)
    for reconstruction in many:
        _check_shape("a reconstruction", reconstruction, total.shape)
        total.add(reconstruction)
    return (total.mean, total.variance) if variance else total.mean
