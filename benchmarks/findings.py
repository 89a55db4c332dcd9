"""The list of findings on labelled scans: which order puts lesions first, and whether splitting findings pays.

    python benchmarks/findings.py ../shared/data/cohort.tsv --split validation [--model implant]

A finding is true if it contains a voxel of the truth, as in ``uadtk.metrics.lesions``. Per order (peak, mass = mean
score times volume, volume, mean): average precision of the list, its mean over scans that have both kinds. Splitting:
a watershed of the score inside the mask, from local maxima that stand out by a share of the threshold; lesion-wise F1
of the pieces against that of the components, pooled over scans (the mask, and so the recall, is the same).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

import uadtk
from uadtk.core.finding import Finding, Segmentation
from uadtk.io.cohort import read_cohort
from uadtk.preparation.lesion_free import lesion_of

ORDERS = {
    "peak": lambda f: f.peak,
    "mass": lambda f: f.mean * f.volume_ml,
    "volume": lambda f: f.volume_ml,
    "mean": lambda f: f.mean,
}
WINDOW_MM = 10.0  # maxima are the highest within this distance
SPLITS = (None, 0.05, 0.1, 0.5, 1.0, 2.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--split", default="validation")
    parser.add_argument("--model", default="implant")
    arguments = parser.parse_args()
    model = uadtk.open(arguments.model)
    rows = [row for row in read_cohort(arguments.cohort).split(arguments.split) if row.lesion_mask]
    rows = [row for row in rows if row.collection != "whole_head"]  # the same scans again
    precisions: dict[str, list[float]] = {name: [] for name in ORDERS}
    counts = {split: np.zeros(4, int) for split in SPLITS}
    for row in rows:
        found = model.segment(row.image, brain_mask=row.brain_mask).segmentation
        lesion = lesion_of(row, found.scoring.scan, model.run)
        assert lesion is not None
        labels = found.components.voxels
        true = np.isin(np.arange(1, len(found.findings) + 1), labels[lesion.voxels])
        if true.any() and not true.all():
            for name, key in ORDERS.items():
                precisions[name].append(average_precision([key(f) for f in found.findings], true))
        for split in SPLITS:
            counts[split] += tally(labels if split is None else pieces(found, split), lesion.voxels)
        print(row.subject, len(found.findings), int(true.sum()), flush=True)
    for name, values in precisions.items():
        print(f"order by {name}: average precision {np.mean(values):.3f} (n = {len(values)})")
    for split, (lesions, hit, components, right) in counts.items():
        recall, precision = hit / lesions, right / components
        name = "none" if split is None else f"prominence {split:g} thresholds"
        f1 = 2 * recall * precision / (recall + precision)
        print(f"split {name}: {components} pieces, precision {precision:.3f}, recall {recall:.3f}, F1 {f1:.3f}")


def average_precision(values: list[float], true: NDArray[np.bool_]) -> float:
    ordered = true[np.argsort(-np.array(values), kind="stable")]
    return float((np.cumsum(ordered) / np.arange(1, len(ordered) + 1))[ordered].mean())


def tally(labels: NDArray[np.int32], truth: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Lesions, found lesions, pieces, true pieces."""
    lesions, number = ndimage.label(truth, np.ones((3, 3, 3)))
    hit = np.unique(lesions[(labels > 0) & truth]).size
    right = np.setdiff1d(np.unique(labels[truth]), [0]).size
    return np.array([number, hit, np.setdiff1d(np.unique(labels), [0]).size, right])


def pieces(found: Segmentation, prominence: float) -> NDArray[np.int32]:
    """The components, split by a watershed of the score from maxima that exceed the threshold by the prominence."""
    score, mask = found.scoring.score.voxels, found.components.voxels > 0
    size = [max(3, 2 * round(WINDOW_MM / mm / 2) + 1) for mm in found.mask.spacing_mm]
    smooth = ndimage.gaussian_filter(score, [1.0 / mm for mm in found.mask.spacing_mm])
    tops = mask & (smooth == ndimage.maximum_filter(smooth, size)) & (score > (1 + prominence) * found.point.threshold)
    markers, count = ndimage.label(tops, np.ones((3, 3, 3)))
    for finding in found.findings:  # every component has at least its own peak
        inside = found.components.voxels == finding.label
        if not (markers[inside] > 0).any():
            count += 1
            markers[peak_voxel(found, finding)] = count
    height = np.where(mask, 65534 * (1 - smooth / smooth.max()), 65535).astype(np.uint16)
    markers[~mask] = -1
    split = ndimage.watershed_ift(height, markers.astype(np.int32), np.ones((3, 3, 3)))
    return np.where(mask & (split > 0), split, 0).astype(np.int32)


def peak_voxel(found: Segmentation, finding: Finding) -> tuple[int, ...]:
    place = np.linalg.inv(found.mask.affine) @ (*finding.peak_mm, 1.0)
    return tuple(np.round(place[:3]).astype(int).tolist())


if __name__ == "__main__":
    main()
