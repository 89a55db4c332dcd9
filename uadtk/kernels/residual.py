"""Residual volumes: the reconstruction error of a model of normal anatomy, averaged over samples, planes and scales.

The score is max(x - x̂, 0), for lesions brighter than normal tissue as in FLAIR, or |x - x̂| (Baur et al., Autoencoders
for unsupervised anomaly segmentation in brain MR images, Medical Image Analysis 2021). Monte Carlo methods average it
over N reconstructions and take its variance as uncertainty (Pawlowski et al., MIDL 2018).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

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
    """Mean residual over N reconstructions of one volume and, on request, its variance.

    Parameters
    ----------
    image : array (z, y, x)
        The volume x, in the units of the reconstructions. Any dtype and strides; read as float32.
    reconstructions : array (z, y, x) or (N, z, y, x), or iterable of arrays (z, y, x)
        The reconstructions x̂. An iterable is read once, so the N volumes need not be in memory together.
    mask : array (z, y, x), optional
        Non-zero inside. Outside it the result is 0, whatever the inputs hold there (even NaN).
    polarity : {"positive", "absolute"}
        The residual: ``max(x - x̂, 0)`` or ``|x - x̂|``.
    variance : bool
        Return ``(mean, variance)`` instead of ``mean``: the variance of the N residuals, divided by N.

    Returns
    -------
    float32 array (z, y, x), or two of them
        Computed in float64 and rounded once, independent of the order of the reconstructions.

    Raises
    ------
    ValueError
        Image not 3-D, shapes that differ, unknown polarity, no reconstruction, non-finite values inside the mask.
    TypeError
        Some arrays on the host and some on the device.

    Examples
    --------
    >>> import numpy as np
    >>> aggregate(np.ones((1, 1, 2)), np.array([0.5, 2.0]).reshape(1, 1, 2))
    array([[[0.5, 0. ]]], dtype=float32)
    """
    if not hasattr(reconstructions, "ndim"):
        running = Aggregate(image, mask, polarity=polarity, variance=variance)
        added = 0
        for reconstruction in reconstructions:
            _check_shape("a reconstruction", reconstruction, running.shape)
            running.add(reconstruction)
            added += 1
        if not added:
            raise ValueError("no reconstruction to aggregate")
        return (running.mean, running.variance) if variance else running.mean

    implementation = _dispatch.implementation("residual", image, reconstructions, mask)
    xp = implementation.namespace()
    image, mask, low = _prepare(xp, image, mask, polarity)
    batch = xp.ascontiguousarray(reconstructions, dtype=np.float32)
    batch = batch[None] if batch.ndim == 3 else batch
    if batch.ndim != 4 or batch.shape[1:] != image.shape:
        raise ValueError(f"reconstructions must be {image.shape} or (N, *{image.shape}), got {reconstructions.shape}")
    if not len(batch):
        raise ValueError("no reconstruction to aggregate")
    mean = xp.zeros(image.shape, np.float32)
    spread = xp.zeros(image.shape if variance else 0, np.float32)
    invalid = xp.zeros(1, np.int32)
    flat = batch.reshape(len(batch), image.size)
    implementation.at_once(image.ravel(), mask.ravel(), flat, mean.ravel(), spread.ravel(), invalid, low)
    _check_finite(invalid)
    return (mean, spread) if variance else mean


class Aggregate:
    """:func:`aggregate` in batches of slices: a 3-D mean residual whose memory does not grow with N.

    Each voxel has its own number of samples, so batches may arrive in any order, from any of the three planes and from
    models at several scales (resampled to the image by the caller).

    Parameters
    ----------
    image, mask, polarity
        As for :func:`aggregate`.
    variance : bool
        Also accumulate :attr:`variance` (8 more bytes per voxel; the mean takes 8).

    Attributes
    ----------
    shape : tuple of int
        Shape of the image, (z, y, x).
    counts : list of three int64 arrays
        How often each slice was added, per axis.

    Raises
    ------
    ValueError
        Image not 3-D, mask of another shape, unknown polarity.

    Examples
    --------
    >>> import numpy as np
    >>> running = Aggregate(np.ones((4, 2, 2)))
    >>> running.add(np.zeros((2, 2, 2)), at=0)
    >>> running.mean[:, 0, 0]
    array([1., 1., 0., 0.], dtype=float32)
    """

    def __init__(
        self, image: Any, mask: Any = None, *, polarity: Polarity = "positive", variance: bool = False
    ) -> None:
        self._implementation = _dispatch.implementation("residual", image, mask)
        self._xp = self._implementation.namespace()
        self._image, self._mask, self._low = _prepare(self._xp, image, mask, polarity)
        self.shape: tuple[int, int, int] = self._image.shape
        self.counts = [np.zeros(n, np.int64) for n in self.shape]
        self._sums = [self._xp.zeros(self.shape, np.float64) for _ in range(1 + variance)]
        self._invalid = self._xp.zeros(1, np.int32)

    def add(self, reconstruction: Any, at: int = 0, axis: int = 0) -> None:
        """Add reconstructed slices ``at, at + 1, ...`` along ``axis``.

        Parameters
        ----------
        reconstruction : array (k, rows, columns) or (N, k, rows, columns)
            k slices of the plane that is perpendicular to ``axis``, rows and columns in the order of the image's
            other axes; or N samples of them.
        at : int
            Index of the first slice, in voxels.
        axis : {0, 1, 2}
            0: slices (y, x) along z; 1: slices (z, x) along y; 2: slices (z, y) along x.

        Raises
        ------
        ValueError
            Slices that do not match the image. Non-finite values are reported by :attr:`mean` and :attr:`variance`.
        TypeError
            Slices on the host for an image on the device, or the reverse.
        """
        _dispatch.implementation("residual", self._image, reconstruction)
        batch = self._xp.asarray(reconstruction, dtype=np.float32)
        batch = batch[None] if batch.ndim == 3 else batch
        plane = tuple(n for i, n in enumerate(self.shape) if i != axis)
        if axis not in (0, 1, 2) or batch.ndim != 4 or batch.shape[2:] != plane:
            raise ValueError(f"slices along axis {axis} of {self.shape} must be (k, *{plane}), got {batch.shape[1:]}")
        samples, slices = batch.shape[:2]
        if not 0 <= at <= at + slices <= self.shape[axis]:
            raise ValueError(f"slices {at} to {at + slices} lie outside axis {axis} of {self.shape}")
        self.counts[axis][at : at + slices] += samples

        contiguous = self._xp.ascontiguousarray
        box = (*(slice(None),) * axis, slice(at, at + slices))
        parts = [part[box] for part in self._sums]
        sums = [contiguous(part) for part in parts]
        self._implementation.add(
            contiguous(self._image[box]).ravel(),
            contiguous(self._mask[box]).ravel(),
            contiguous(self._xp.moveaxis(batch, 1, 1 + axis)).reshape(samples, parts[0].size),
            sums[0].ravel(),
            sums[-1].ravel(),
            len(sums) == 2,
            self._invalid,
            self._low,
        )
        for part, total in zip(parts, sums, strict=True):
            if total is not part:
                part[...] = total

    @property
    def mean(self) -> Any:
        """Mean residual so far, float32 (z, y, x); 0 outside the mask and where nothing was added."""
        return self._finished(variance=False)

    @property
    def variance(self) -> Any:
        """Variance of the residuals so far (divided by their number), float32 (z, y, x); 0 where :attr:`mean` is."""
        if len(self._sums) == 1:
            raise ValueError("the variance was not accumulated: create Aggregate with variance=True")
        return self._finished(variance=True)

    def _finished(self, variance: bool) -> Any:
        _check_finite(self._invalid)
        out = self._xp.empty(self.shape, np.float32)
        counts = [self._xp.asarray(count) for count in self.counts]
        self._implementation.finish(self._sums[0], self._sums[-1], *counts, variance, out)
        return out


def _prepare(xp: Any, image: Any, mask: Any, polarity: str) -> tuple[Any, Any, float]:
    if polarity not in _LOW:
        raise ValueError(f"polarity must be 'positive' or 'absolute', got {polarity!r}")
    image = xp.ascontiguousarray(image, dtype=np.float32)
    if image.ndim != 3:
        raise ValueError(f"image must be 3-D (z, y, x), got shape {image.shape}")
    if mask is None:
        return image, xp.ones(image.shape, bool), _LOW[polarity]
    _check_shape("mask", mask, image.shape)
    return image, xp.ascontiguousarray(mask, dtype=bool), _LOW[polarity]


def _check_shape(what: str, array: Any, shape: tuple[int, ...]) -> None:
    if np.shape(array) != shape:
        raise ValueError(f"{what} must have the image's shape {shape}, got {np.shape(array)}")


def _check_finite(invalid: Any) -> None:
    if int(invalid[0]):
        raise ValueError("non-finite residual inside the mask: the image or a reconstruction holds NaN or inf")
