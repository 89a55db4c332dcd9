"""Volume: the threshold that marks as many voxels as the labels, whatever their source.

For a student trained on the output of an unsupervised model (``uadtk selfteach``): a probability threshold of 0.5 marks
too little where the student is less certain than its teacher, and a DICE-optimal threshold needs true labels. Scans
that were labelled by the teacher and not used to train the student suffice here. False findings in the labels count as
volume.

The threshold is the quantile of all brain voxels above which their number equals that of labelled voxels; exact,
streamed.
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
        """``measured``: labelled and marked voxels. Raises DataError if there is no labelled voxel."""
        lesion = brain = 0
        for scan in scans:
            lesion += 0 if scan.lesion is None else int(np.count_nonzero(scan.lesion))
            brain += int(np.count_nonzero(scan.brain))
        if not lesion:
            raise DataError("the labelled scans contain no lesion voxel", "volume", "Calibrate on scans with lesions.")

        def scores() -> Iterator[np.ndarray]:
            return (scan.score[scan.brain] for scan in scans)

        threshold = max(0.0, quantile(scores, max(0.0, 1 - lesion / brain)))
        marked = sum(int(np.count_nonzero(values > np.float32(threshold))) for values in scores())
        measured = {"lesion": float(lesion), "marked": float(marked)}
        return Choice(threshold, "as many voxels as the labels", measured)
