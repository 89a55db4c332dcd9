"""The measures of an evaluation, computed from sums over patients: exact values and bootstrap intervals.

==================================  =====================================================================  ============
``auroc``, ``auprc``                pooled over the brain's voxels of all labelled scans                   [0, 1]
``dice_oracle``                     ⌈DICE⌉ of the same voxels: best threshold chosen on the truth          [0, 1]
``..._volume``                      the same over all voxels: outside the brain the score is 0, and        [0, 1]
                                    lesions there are missed. Air is trivial, which inflates AUROC
``l1_normal``, ``l1_anomalous``     mean |x - x̂| of the brain's voxels without and with lesion, before     >= 0
                                    any cleaner, in units of the brain's 98th percentile; ``_sd`` is
                                    their standard deviation. NaN for scorers without reconstruction
``slice_auroc``, ``scan_auroc``,    detection of slices, and of scans, that contain a lesion             [0, 1]
``..._auprc``                       (``uadtk.metrics.samples``)
``chi_squared``                     distance between the two histograms of the score (``chi_squared``)     [0, 1]
``dice``, ``dice_sd``               mean and standard deviation over patients of DICE at the operating     [0, 1]
                                    point, over all voxels; a patient's scans are averaged first
``lesion_recall``, ``_precision``,  of lesions and components of labelled scans at the operating point;    [0, 1]
``_f1``                             also by size (``uadtk.metrics.lesions``)
``fp_per_healthy_scan``,            components, and their millilitres, in scans without lesions            >= 0
``fp_ml_per_healthy_scan``
==================================  =====================================================================  ============

DICE is 1 if mask and truth are both empty, 0 if only one is (``uadtk.metrics.overlap.dice``). At the operating point,
components smaller than the size the point was calibrated for, or else 8 voxels, are dropped, as by ``uadtk segment``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk.metrics.bootstrap import bootstrap
from uadtk.metrics.curves import average_precision_of, best_dice_of, roc_auc_of
from uadtk.metrics.lesions import SIZES, f1, precision, recall
from uadtk.metrics.residuals import chi_squared, mean_and_sd

Vector = NDArray[np.float64]

CURVE = tuple(name + where for where in ("", "_volume") for name in ("auroc", "auprc", "dice_oracle"))
VOXEL = ("l1_normal", "l1_normal_sd", "l1_anomalous", "l1_anomalous_sd", "chi_squared")
_LESION = {"lesion_recall": recall, "lesion_precision": precision, "lesion_f1": f1}
POINT = ("dice", "dice_sd", *_LESION, *(f"{name} ({size})" for size in SIZES for name in _LESION))
HEALTHY = ("fp_per_healthy_scan", "fp_ml_per_healthy_scan")


@dataclass(frozen=True)
class Measure:
    """``value``: NaN if undefined. ``interval``: 95 %, None with fewer than two patients."""

    value: float
    interval: tuple[float, float] | None = None


def per_patient(subjects: Sequence[str], vectors: Iterable[NDArray[Any]]) -> Vector:
    """Sum the vectors of each patient's scans: (patients, m), patients in the order of their first scan."""
    place = {subject: k for k, subject in enumerate(dict.fromkeys(subjects))}
    sums = np.zeros((len(place), 0))
    for subject, vector in zip(subjects, vectors, strict=True):
        if not sums.size:
            sums = np.zeros((len(place), vector.size))
        sums[place[subject]] += vector.ravel()
    return sums


def curve_values(sums: Vector) -> list[float]:
    """``CURVE`` from the counts of :func:`uadtk.metrics.curves.kept` and both kinds outside the brain."""
    inside = sums[:-2].reshape(2, -1)
    volume = inside.copy()
    volume[:, 0] += sums[-2:]  # their score is 0, so they add to the first count only, that of all voxels
    of = (roc_auc_of, average_precision_of, best_dice_of)
    return [measure(counts) for counts in (inside, volume) for measure in of]


def voxel_values(sums: Vector) -> list[float]:
    """``VOXEL`` from ``error_sums`` (2, 3), then ``score_histograms`` (2, bins)."""
    normal, anomalous = sums[:6].reshape(2, 3)
    return [*mean_and_sd(normal), *mean_and_sd(anomalous), chi_squared(sums[6:].reshape(2, -1))]


def point_sums(by_patient: Vector) -> Vector:
    """From sums of (DICE, 1, tally of lesions) to (DICE, DICE squared, 1, tally) with a patient's scans averaged."""
    dice = by_patient[:, :1] / by_patient[:, 1:2]
    return np.hstack([dice, dice**2, np.ones_like(dice), by_patient[:, 2:]])


def point_values(sums: Vector) -> list[float]:
    """``POINT`` from :func:`point_sums`."""
    tally = sums[3:].reshape(4, -1)
    classes = [tally, *(tally[:, [k]] for k in range(tally.shape[1]))]
    return [*mean_and_sd(sums[:3]), *(measure(some) for some in classes for measure in _LESION.values())]


def healthy_values(sums: Vector) -> list[float]:
    """``HEALTHY`` from sums of (components, their ml, 1)."""
    return (sums[:2] / sums[2]).tolist() if sums[2] else [math.nan, math.nan]


def measure(
    names: Sequence[str],
    values: Callable[[Vector], list[float]],
    sums: Vector,
    seed: int,
    exact: Sequence[float] | None = None,
) -> dict[str, Measure]:
    """``values`` of all patients (or ``exact`` in their place), each with its interval over patients."""
    ends = bootstrap(values, sums, seed).tolist()
    points = values(sums.sum(axis=0)) if exact is None else exact
    intervals: list[tuple[float, float] | None] = [None if math.isnan(low) else (low, high) for low, high in ends]
    return {name: Measure(value, interval) for name, value, interval in zip(names, points, intervals, strict=True)}
