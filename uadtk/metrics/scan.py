"""The results of one scored scan in an evaluation: figures, sums, and the scores of its brain on disk."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uadtk.core.finding import Light
from uadtk.kernels import average_precision, label_components
from uadtk.metrics.cost import Cost
from uadtk.metrics.lesions import tally_lesions
from uadtk.metrics.overlap import dice
from uadtk.metrics.residuals import error_sums


@dataclass(frozen=True)
class ScanMaps:
    """A scored scan on the grid of the evaluation, arrays (x, y, z); the score is 0 outside the brain.

    ``truth`` is None without lesion annotations, and all False if there are no lesions. ``light``: of the gate.
    ``error`` is |x - x̂| of the reconstruction, before any cleaner; None without one.
    ``slice_scores`` (n,): the highest score in each slice as the network sees it; ``slice_truths``: any lesion there.
    """

    subject: str
    image: str
    site: str | None
    score: NDArray[np.float32]
    brain: NDArray[np.bool_]
    truth: NDArray[np.bool_] | None
    voxel_ml: float
    cost: Cost
    light: Light = "green"
    error: NDArray[np.float32] | None = None
    slice_scores: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    slice_truths: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))


@dataclass(frozen=True)
class ScanResult:
    """One scan of an evaluation; values that need an operating point or lesions are None without them.

    ``auprc``: inside this scan's brain, if it contains a lesion voxel. ``lesion_outside``: lesion voxels outside the
    brain. ``lesions``, ``found``, ``components``, ``true`` as in ``uadtk.metrics.lesions``; ``mask_ml``: volume of the
    mask after small components are dropped. ``seconds`` and ``peak_mb`` (MiB; NaN if not measured): cost of the score
    map. ``light``: of the gate.
    """

    subject: str
    image: str
    site: str | None
    labelled: bool
    brain_voxels: int
    lesion_voxels: int
    lesion_outside: int
    seconds: float
    peak_mb: float
    auprc: float | None = None
    mask_ml: float | None = None
    components: int | None = None
    dice: float | None = None
    lesions: int | None = None
    found: int | None = None
    true: int | None = None
    light: Light = "green"


@dataclass(frozen=True)
class ScanSums:
    """``result``, and the sums from which the measures of a cohort are computed.

    ``errors`` as from ``error_sums``, of the reconstruction, 0 without one; ``tally`` as from ``tally_lesions``;
    ``top``: highest score; ``outside``: lesion and other voxels outside the brain. For labelled scans ``file`` holds
    scores and truth of the brain.
    """

    result: ScanResult
    errors: NDArray[np.float64]
    tally: NDArray[np.int64]
    top: float
    outside: tuple[int, int]
    slice_scores: NDArray[np.float32]
    slice_truths: NDArray[np.bool_]
    file: Path = Path()

    def score(self) -> NDArray[np.float32]:
        stored: NDArray[np.float32] = np.load(_scores(self.file))
        return stored

    def truth(self) -> NDArray[np.bool_]:
        stored: NDArray[np.bool_] = np.load(_truths(self.file))
        return stored


@dataclass(frozen=True)
class UnsavedScan:
    """A measured scan in memory: ``sums``, which have no file yet, and scores and truth of the brain."""

    sums: ScanSums
    score: NDArray[np.float32]
    truth: NDArray[np.bool_]

    def save(self, file: Path) -> ScanSums:
        """Store the arrays of a labelled scan beside ``file``."""
        if self.sums.result.labelled:
            np.save(_scores(file), self.score)
            np.save(_truths(file), self.truth)
        return replace(self.sums, file=file)


def measure_scan(maps: ScanMaps, threshold: float | None, min_voxels: int) -> UnsavedScan:
    """Everything that needs the whole volume: mask, components.

    ``threshold`` None: no operating point. Components of fewer than ``min_voxels`` voxels are not findings.
    """
    truth = np.zeros_like(maps.brain) if maps.truth is None else maps.truth
    score, marked = maps.score[maps.brain], truth[maps.brain]
    lesion = int(np.count_nonzero(truth))
    outside = lesion - int(np.count_nonzero(marked))
    result = ScanResult(
        subject=maps.subject,
        image=maps.image,
        site=maps.site,
        labelled=maps.truth is not None,
        brain_voxels=score.size,
        lesion_voxels=lesion,
        lesion_outside=outside,
        seconds=maps.cost.seconds,
        peak_mb=maps.cost.peak_mb,
        auprc=average_precision(score, marked) if marked.any() else None,
        light=maps.light,
    )
    tally = np.zeros((4, 4), np.int64)
    if threshold is not None:
        result, tally = _at_point(result, maps, truth, threshold, min_voxels)
    elsewhere = maps.brain.size - score.size - outside
    sums = ScanSums(
        result=result,
        errors=np.zeros((2, 3)) if maps.error is None else error_sums(maps.error[maps.brain], marked),
        tally=tally,
        top=float(score.max(initial=0)),
        outside=(outside, elsewhere),
        slice_scores=maps.slice_scores,
        slice_truths=maps.slice_truths,
    )
    return UnsavedScan(sums, score, marked)


def _at_point(
    result: ScanResult, maps: ScanMaps, truth: NDArray[np.bool_], threshold: float, min_voxels: int
) -> tuple[ScanResult, NDArray[np.int64]]:
    above = maps.score > np.float32(threshold)
    labels, _ = label_components(above.T, connectivity=26, min_size=min_voxels)
    mask: NDArray[np.bool_] = labels.T > 0
    tally = tally_lesions(mask, truth, maps.voxel_ml)
    lesions, found, components, true = tally.sum(axis=1).tolist()
    result = replace(result, mask_ml=int(np.count_nonzero(mask)) * maps.voxel_ml, components=components)
    if result.labelled:
        result = replace(result, dice=dice(mask, truth), lesions=lesions, found=found, true=true)
    return result, tally


def _scores(file: Path) -> Path:
    return file.with_suffix(".score.npy")


def _truths(file: Path) -> Path:
    return file.with_suffix(".truth.npy")
