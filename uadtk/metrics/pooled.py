"""From the scans of a cohort to its measures.

Scores stay on disk. Memory holds one scan, 33 KB per patient, and 100 bytes per distinct score of a lesion voxel (in
``detection_summary``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk.kernels import detection_summary
from uadtk.metrics import measures as m
from uadtk.metrics.curves import Stream, common_thresholds, kept, precision_recall_of
from uadtk.metrics.measures import Measure
from uadtk.metrics.residuals import score_histograms
from uadtk.metrics.samples import sample_measures
from uadtk.metrics.scan import ScanSums


@dataclass(frozen=True)
class Pooled:
    """``measures`` of a cohort, and the data of its charts, empty if no brain contains a lesion voxel.

    ``precision_recall``: at most 200 pairs (recall, precision) inside the brain, from the highest threshold down.
    ``histograms``: ``normal`` and ``anomalous`` voxels in 100 equal bins of scores from 0 to ``top``, zeros excluded.
    """

    measures: dict[str, Measure]
    precision_recall: list[tuple[float, float]] = field(default_factory=list)
    histograms: dict[str, Any] = field(default_factory=dict)


def pooled(scans: Sequence[ScanSums], at_point: bool, seed: int) -> Pooled:
    """All measures of ``uadtk.metrics.measures`` and ``.samples`` that the scans permit, ``seconds`` and ``peak_mb``.

    Pooled measures need a lesion voxel inside a brain, measures at the operating point need a lesion, false positives a
    scan without lesions. ``seconds`` is the median over scans; ``peak_mb`` the maximum, NaN if not measured.
    """
    labelled = [one for one in scans if one.result.labelled]
    found: dict[str, Measure] = {}
    curve: list[tuple[float, float]] = []
    histograms: dict[str, Any] = {}
    if any(one.result.lesion_voxels > one.result.lesion_outside for one in labelled):
        detection, curve = _curves(labelled, seed)
        voxels, histograms = _voxels(labelled, seed)
        found |= detection | voxels
    found |= sample_measures(scans, seed)
    if at_point and any(one.result.lesion_voxels for one in labelled):
        found |= _at_point(labelled, seed)
    healthy = [one for one in scans if not one.result.lesion_voxels]
    if at_point and healthy:
        found |= _false_positives(healthy, seed)
    found["seconds"] = Measure(float(np.median([one.result.seconds for one in scans])))
    found["peak_mb"] = Measure(max(one.result.peak_mb for one in scans))
    return Pooled(found, curve, histograms)


def _curves(labelled: Sequence[ScanSums], seed: int) -> tuple[dict[str, Measure], list[tuple[float, float]]]:
    """Exact values from all voxels, intervals from each patient's counts at common thresholds."""

    def scores() -> Iterator[NDArray[Any]]:
        return (one.score() for one in labelled)

    def truths() -> Iterator[NDArray[Any]]:
        return (one.truth() for one in labelled)

    thresholds = common_thresholds(scores, truths)
    vectors = (np.append(kept(one.score(), one.truth(), thresholds), one.outside) for one in labelled)
    exact: list[float] = []
    for streams in ((scores, truths), _with_outside(labelled, scores, truths)):
        summary = detection_summary(*streams)
        exact += [summary.roc_auc, summary.average_precision, summary.best_dice.dice]
    sums = m.per_patient(_subjects(labelled), vectors)
    counts = sums.sum(axis=0)[:-2].reshape(2, -1)
    return m.measure(m.CURVE, m.curve_values, sums, seed, exact), precision_recall_of(counts)


def _with_outside(labelled: Sequence[ScanSums], scores: Stream, truths: Stream) -> tuple[Stream, Stream]:
    """The streams, followed by the voxels outside each scan's brain, whose score is 0."""

    def all_scores() -> Iterator[NDArray[Any]]:
        yield from scores()
        yield from (np.zeros(sum(one.outside), np.float32) for one in labelled)

    def all_truths() -> Iterator[NDArray[Any]]:
        yield from truths()
        yield from (np.arange(sum(one.outside)) < one.outside[0] for one in labelled)

    return all_scores, all_truths


def _voxels(labelled: Sequence[ScanSums], seed: int) -> tuple[dict[str, Measure], dict[str, Any]]:
    top = max(one.top for one in labelled)
    vectors = (np.append(one.errors, score_histograms(one.score(), one.truth(), top)) for one in labelled)
    sums = m.per_patient(_subjects(labelled), vectors)
    normal, anomalous = sums.sum(axis=0)[6:].astype(int).reshape(2, -1).tolist()
    histograms = {"top": top, "normal": normal, "anomalous": anomalous}
    return m.measure(m.VOXEL, m.voxel_values, sums, seed), histograms


def _at_point(labelled: Sequence[ScanSums], seed: int) -> dict[str, Measure]:
    vectors = (np.append([one.result.dice, 1], one.tally) for one in labelled)
    sums = m.point_sums(m.per_patient(_subjects(labelled), vectors))
    return m.measure(m.POINT, m.point_values, sums, seed)


def _false_positives(healthy: Sequence[ScanSums], seed: int) -> dict[str, Measure]:
    vectors = (np.array([one.result.components, one.result.mask_ml, 1], float) for one in healthy)
    return m.measure(m.HEALTHY, m.healthy_values, m.per_patient(_subjects(healthy), vectors), seed)


def _subjects(scans: Sequence[ScanSums]) -> list[str]:
    return [one.result.subject for one in scans]
