"""Robust correction of a bias field: a cubic surface fitted to the log intensities of ordinary tissue.

N4 (Tustison et al. 2010) sharpens the histogram, and takes part of a large bright tumour for a bias field. Here the
field is a polynomial of the position in mm, fitted by iteratively reweighted least squares with Tukey's biweight:
tissue far from the surface, such as a lesion or fluid, has no weight (surface fitting as in Dawant et al., IEEE TMI
1993, without manual reference points). Compared with N4 in benchmarks/bias.py.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from uadtk.core.volume import Mask, Scan
from uadtk.kernels._box import bounding_box

DEGREE = 3
UNIT_MM = 80.0  # positions are divided by it: about half the length of a brain
SAMPLES = 50_000  # brain voxels the field is fitted to, evenly spaced in memory order
ITERATIONS = 12
DARK, BRIGHT = (  # log intensities farther below or above the surface have no weight; lesions are bright on FLAIR
    np.geomspace(0.7, end, ITERATIONS) for end in (0.3, 0.15)
)
RIDGE = 1e-3
STRONGEST = 0.7  # largest logarithm of the field

_TERMS = [term for term in product(range(DEGREE + 1), repeat=3) if sum(term) <= DEGREE]


def flattened(scan: Scan, brain: Mask) -> Scan:
    """The scan divided by its bias field, which is 1 on geometric average over the brain.

    Intensities must be positive in most of the brain (0: darkest fluid).
    """
    field = bias_field(scan, brain)
    return Scan(np.divide(scan.voxels, field, out=field), scan.affine)


def bias_field(scan: Scan, brain: Mask) -> NDArray[np.float32]:
    """The bias field on the scan's grid, extrapolated outside the brain; 1 everywhere if the brain is not positive."""
    if not brain.voxels.any():
        return np.ones(scan.shape, np.float32)
    box = bounding_box(brain.voxels)
    inside = brain.voxels[box]
    found = np.flatnonzero(inside)
    found = found[:: max(1, found.size // SAMPLES)]
    places = np.stack(np.unravel_index(found, inside.shape)) + [[side.start] for side in box]
    values = scan.voxels[tuple(places)]
    places, log = places[:, values > 0], np.log(values[values > 0].astype(np.float64))
    if log.size < 10 * len(_TERMS):
        return np.ones(scan.shape, np.float32)
    at_mm = places * np.array(scan.spacing_mm)[:, None]
    centre_mm = at_mm.mean(axis=1)
    surface, level = _fitted((at_mm - centre_mm[:, None]) / UNIT_MM, log)
    coefficients = np.zeros((DEGREE + 1,) * 3)
    coefficients[tuple(np.array(_TERMS).T)] = surface
    coefficients[0, 0, 0] -= level
    field: NDArray[np.float32] = coefficients.astype(np.float32).T
    axes = [*zip(scan.shape, scan.spacing_mm, centre_mm, strict=True)]
    for n, mm, centre in reversed(axes):  # one after the other: (b, a, z), (a, z, y), (z, y, x): the order of a file
        powers = np.vander((np.arange(n) * mm - centre) / UNIT_MM, DEGREE + 1, increasing=True).astype(np.float32)
        field = np.tensordot(field, powers, axes=(0, 1))
    np.exp(np.clip(field, -STRONGEST, STRONGEST, out=field), out=field)
    return field.T


def _fitted(places: NDArray[np.float64], log: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Coefficients of the surface, and its mean at the places (3, n); it starts flat, at the most frequent intensity.

    Sums over a block of places are float32, which is precise to 1e-5 of the field; those over blocks are float64.
    """
    from uadtk.kernels._numba.surface import normal_equations

    samples = np.ascontiguousarray(places, np.float32), log.astype(np.float32), np.array(_TERMS)
    first = _TERMS.index((0, 0, 0))
    surface: NDArray[np.float64] = np.zeros(len(_TERMS))
    surface[first] = _mode(log)
    penalty = RIDGE * log.size * np.diag([float(any(term)) for term in _TERMS])
    for dark, bright in zip(DARK, BRIGHT, strict=True):
        square, right = normal_equations(*samples, surface, dark, bright)
        surface = np.asarray(np.linalg.solve(square + penalty, right), np.float64)
    sums, _ = normal_equations(*samples, surface, np.inf, np.inf)  # every weight is 1
    return surface, float(sums[first] @ surface) / log.size


def _mode(values: NDArray[np.float64]) -> float:
    """The centre of the narrowest interval that holds half of the values (half-sample mode, one step)."""
    ordered = np.sort(values)
    half = ordered.size // 2
    first = int(np.argmin(ordered[half:] - ordered[:-half]))
    return float(ordered[first : first + half + 1].mean())
