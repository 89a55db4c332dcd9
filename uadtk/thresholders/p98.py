"""Percentile: the score below which 98 % of healthy brain voxels lie.

Baur et al. 2021, section 4.3: the 98th percentile of the cleaned residuals over healthy scans. Exact, pooled over all
brain voxels that no cleaner excludes, streamed from disk: the rim that ``erode`` sets to 0 does not count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uadtk.kernels import quantile
from uadtk.plugin import CalibrationSet, Choice, DataError, option


@dataclass(frozen=True)
class Options:
    percentile: float = option(98.0, "Percentage of healthy brain voxels at or below the threshold.", ge=0, le=100)


class Thresholder:
    Options = Options
    needs_lesions = False

    def __init__(self, options: Options) -> None:
        self.options = options

    def choose(self, scans: CalibrationSet) -> Choice:
        """Raises DataError if no voxel counts."""
        if not any(scan.counted.size for scan in scans):
            raise DataError("the cleaners exclude every healthy brain voxel", "p98", "Erode less.")
        threshold = quantile(lambda: (scan.counted for scan in scans), self.options.percentile / 100)
        above = total = 0
        for scan in scans:
            values = scan.counted
            above, total = above + int(np.count_nonzero(values > np.float32(threshold))), total + values.size
        return Choice(threshold, f"{self.options.percentile:g} % of healthy brain voxels", {"voxel_fpr": above / total})
