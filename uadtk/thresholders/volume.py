"""Volume: as many voxels are marked as the labels mark, whoever made them.

For a student that was taught by an unsupervised model (``uadtk selfteach``): probability 0.5 marks too little where the
student is less sure of itself than its teacher was, and a threshold with the best DICE would need true labels. Scans
labelled by the teacher, which the student has not learned from, are enough for this one. Where the labels hold false
findings, they count as volume.

The threshold is the quantile of all brain voxels above which as many lie as the labels hold; exact, streamed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from uadtk.kernels import quantile
from uadtk.plugin import CalibrationSet, Choice, DataError, NoOptions


class Thresholder:
    Options = NoOptions
    needs_lesions = True

    def __init__(self, options: NoOptions) -> None:
        pass

    def choose(self, scans: CalibrationSet) -> Choice:
        """``measured``: voxels of lesion, and how many are marked. Raises DataError if there is no lesion voxel."""
        lesion = brain = 0
        for scan in scans:
            lesion += 0 if scan.lesion is None else int(np.count_nonzero(scan.lesion))
            brain += int(np.count_nonzero(scan.brain))
        if not lesion:
            raise DataError("the labelled scans hold no lesion voxel", "volume", "Calibrate on scans with lesions.")

        def scores() -> Iterator[np.ndarray]:
            return (scan.score[scan.brain] for scan in scans)

        threshold = max(0.0, quantile(scores, max(0.0, 1 - lesion / brain)))
        marked = sum(int(np.count_nonzero(values > np.float32(threshold))) for values in scores())
        measured = {"lesion": float(lesion), "marked": float(marked)}
        return Choice(threshold, "as many voxels as the labels hold", measured)
