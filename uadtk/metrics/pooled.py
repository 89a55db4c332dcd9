"""From the scans of a cohort to its measures.

Scores stay on disk. Memory holds one scan, 33 KB per patient, and what ``detection_summary`` keeps of lesion voxels:
100 bytes for each of their distinct scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk.kernels import detection_summary
from uadtk.metrics import measures as m
from uadtk.metrics.curves import Stream, common_thresholds, kept
from uadtk.metrics.measures import Measure
from uadtk.metrics.residuals import score_histograms
from uadtk.metrics.scan import Seen


def pooled_measures(seen: Sequence[Seen], at_point: bool, seed: int) -> dict[str, Measure]:
    """All measures of :mod:`uadtk.metrics.measures` that the scans allow, then ``seconds`` and ``peak_mb``.

    Pooled measures need a lesion voxel in a brain, those of the operating point need one, false positives a scan
    without lesion. ``seconds`` is the median over scans, ``peak_mb`` the highest.
    """
    labelled = [one for one in seen if one.result.labelled]
    found: dict[str, Measure] = {}
    if any(one.result.lesion_voxels > one.result.lesion_outside for one in labelled):
        found |= _curves(labelled, seed) | _voxels(labelled, seed)
    if at_point and any(one.result.lesion_voxels for one in labelled):
        found |= _at_point(labelled, seed)
    healthy = [one for one in seen if not one.result.lesion_voxels]
    if at_point and healthy:
        found |= _false_positives(healthy, seed)
    found["seconds"] = Measure(float(np.median([one.result.seconds for one in seen])))
    found["peak_mb"] = Measure(max(one.result.peak_mb for one in seen))
    return found


def _curves(labelled: Sequence[Seen], seed: int) -> dict[str, Measure]:
    """Exact values from the voxels themselves, intervals from each patient's counts at common thresholds."""

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
    return m.measure(m.CURVE, m.curve_values, m.per_patient(_subjects(labelled), vectors), seed, exact)


def _with_outside(labelled: Sequence[Seen], scores: Stream, truths: Stream) -> tuple[Stream, Stream]:
    """The streams, then for each scan the voxels outside its brain, whose score is 0."""

    def all_scores() -> Iterator[NDArray[Any]]:
        yield from scores()
        yield from (np.zeros(sum(one.outside), np.float32) for one in labelled)

    def all_truths() -> Iterator[NDArray[Any]]:
        yield from truths()
        yield from (np.arange(sum(one.outside)) < one.outside[0] for one in labelled)

    return all_scores, all_truths


def _voxels(labelled: Sequence[Seen], seed: int) -> dict[str, Measure]:
    top = max(one.top for one in labelled)
    vectors = (np.append(one.errors, score_histograms(one.score(), one.truth(), top)) for one in labelled)
    return m.measure(m.VOXEL, m.voxel_values, m.per_patient(_subjects(labelled), vectors), seed)


def _at_point(labelled: Sequence[Seen], seed: int) -> dict[str, Measure]:
    vectors = (np.append([one.result.dice, 1], one.tally) for one in labelled)
    sums = m.point_sums(m.per_patient(_subjects(labelled), vectors))
    return m.measure(m.POINT, m.point_values, sums, seed)


def _false_positives(healthy: Sequence[Seen], seed: int) -> dict[str, Measure]:
    vectors = (np.array([one.result.components, one.result.mask_ml, 1], float) for one in healthy)
    return m.measure(m.HEALTHY, m.healthy_values, m.per_patient(_subjects(healthy), vectors), seed)


def _subjects(seen: Sequence[Seen]) -> list[str]:
    return [one.result.subject for one in seen]
