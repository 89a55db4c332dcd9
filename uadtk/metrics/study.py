"""Questions about several rows of a study: agreement of measures, effect of training data, differences by site."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from uadtk.metrics.bootstrap import bootstrap

T = TypeVar("T")


@dataclass(frozen=True)
class PatientMean:
    """Mean of a measure over ``patients``; ``interval``: 95 % bootstrap over patients, None with fewer than two."""

    patients: int
    value: float
    interval: tuple[float, float] | None


def by_patient(scans: Iterable[Mapping[str, Any]], name: str) -> dict[str, float]:
    """``name`` (``dice``, ``auprc``) of each patient, averaged over their scans; without patients that have no value.

    ``scans``: :class:`uadtk.metrics.scan.ScanResult` as dictionaries.
    """
    values: dict[str, list[float]] = {}
    for scan in scans:
        if scan[name] is not None:
            values.setdefault(scan["subject"], []).append(scan[name])
    return {subject: float(np.mean(own)) for subject, own in values.items()}


def by_site(scans: Iterable[Mapping[str, Any]], name: str, seed: int = 0) -> dict[str, PatientMean]:
    """``name`` (``dice``, ``auprc``) of the scans of an evaluation per site, sorted; '' for scans without a site.

    ``scans``: :class:`uadtk.metrics.scan.ScanResult` as dictionaries. A patient's scans at a site are averaged first;
    scans without a value are left out.
    """
    sites: dict[str, list[Mapping[str, Any]]] = {}
    for scan in scans:
        sites.setdefault(scan.get("site") or "", []).append(scan)
    values = {site: list(by_patient(sites[site], name).values()) for site in sorted(sites)}
    return {site: _mean(own, seed) for site, own in values.items() if own}


def _mean(values: Sequence[float], seed: int) -> PatientMean:
    sums = np.column_stack([values, np.ones(len(values))])
    ((low, high),) = bootstrap(lambda total: total[0] / total[1], sums, seed).tolist()
    return PatientMean(len(values), float(np.mean(values)), None if math.isnan(low) else (low, high))


def by_size(rows: Iterable[tuple[Hashable, int | None, T]]) -> dict[Hashable, list[tuple[int, T]]]:
    """Group rows (key, number of training scans, anything) by key, fewest scans first.

    Keys with a single number of scans, and rows whose number is unknown, are omitted.
    """
    found: dict[Hashable, list[tuple[int, T]]] = {}
    for key, scans, row in rows:
        if scans is not None:
            found.setdefault(key, []).append((scans, row))
    several = {key: own for key, own in found.items() if len({scans for scans, _ in own}) > 1}
    return {key: sorted(own, key=lambda each: each[0]) for key, own in several.items()}


def correlations(columns: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pearson's and Spearman's correlation of all pairs of ``columns`` (rows, k): two (k, k), values in [-1, 1].

    NaN for a constant column.
    """
    values = np.asarray(columns, float)
    return _pearson(values), _pearson(rankdata(values, axis=0))


def _pearson(values: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = values - values.mean(axis=0)
    centred[:, np.ptp(values, axis=0) == 0] = math.nan  # the mean of equal values may differ in the last digit
    norm = np.sqrt((centred**2).sum(axis=0))
    return np.clip(centred.T @ centred / np.outer(norm, norm), -1, 1)
