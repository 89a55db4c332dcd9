"""Detection of whole samples: does a slice, or a scan, contain a lesion?

The score of a slice is the highest cleaned score in its brain, as the network sees it; that of a scan the highest of
all. A slice is abnormal if any part of a lesion lies in it, a scan if it has a lesion voxel. Scans without lesions
count whether or not they have a mask. Models that judge whole slices (``ocsvm``) can be compared by these measures
only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from uadtk.kernels import detection_summary
from uadtk.metrics.curves import average_precision_of, common_thresholds, kept, roc_auc_of
from uadtk.metrics.measures import Measure, Vector, measure, per_patient
from uadtk.metrics.scan import ScanSums

SAMPLES = ("slice_auroc", "slice_auprc", "scan_auroc", "scan_auprc")
Scores = Sequence[NDArray[np.float32]]
Truths = Sequence[NDArray[np.bool_]]


def sample_measures(scans: Sequence[ScanSums], seed: int) -> dict[str, Measure]:
    """``SAMPLES``; those of a level only if it has both normal and abnormal samples."""
    subjects = [one.result.subject for one in scans]
    tops = [np.array([one.top], np.float32) for one in scans]
    lesions = [np.array([one.result.lesion_voxels > 0]) for one in scans]
    slices, abnormal = [one.slice_scores for one in scans], [one.slice_truths for one in scans]
    return _level("slice", subjects, slices, abnormal, seed) | _level("scan", subjects, tops, lesions, seed)


def _level(name: str, subjects: Sequence[str], scores: Scores, truths: Truths, seed: int) -> dict[str, Measure]:
    everything = np.concatenate(truths)
    if everything.all() or not everything.any():
        return {}
    summary = detection_summary(lambda: scores, lambda: truths)
    thresholds = common_thresholds(lambda: scores, lambda: truths)
    vectors = (kept(score, truth, thresholds) for score, truth in zip(scores, truths, strict=True))
    names = (f"{name}_auroc", f"{name}_auprc")
    exact = (summary.roc_auc, summary.average_precision)
    return measure(names, _values, per_patient(subjects, vectors), seed, exact)


def _values(sums: Vector) -> list[float]:
    counts = sums.reshape(2, -1)
    return [roc_auc_of(counts), average_precision_of(counts)]
