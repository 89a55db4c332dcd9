"""The weight of total variation in restoration: chosen on healthy scans with planted lesions.

You et al., *Unsupervised lesion detection via image restoration with a normative prior* (MIDL 2019) take the weight
that changes healthy slices least. That favours large weights, at which small lesions cannot be removed either: with an
l1 objective a disc moves only if its area exceeds the weight times its perimeter. Here bright discs of several sizes
are planted in lesion-free slices, and the weight is taken at which their pixels are best separated from healthy ones,
by AUPRC, averaged over the sizes. The mean score of the healthy pixels is reported beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uadtk import registry
from uadtk.checkpoint import Checkpoint
from uadtk.core.errors import DataError, UsageError
from uadtk.core.model import Batch
from uadtk.core.run import Run
from uadtk.core.spec import Spec
from uadtk.io.cohort import Cohort
from uadtk.io.write import scratch
from uadtk.kernels import average_precision
from uadtk.pipeline.score import SLICES_AT_ONCE, build_method
from uadtk.training.slices import load_slices

GRID = tuple(round(0.2 * i, 1) for i in range(20))  # You et al.: 0 to 3.8
RADII_MM = (2.5, 4.0, 7.0, 11.0)
CONTRAST = 0.4  # of the 98th percentile of the brain
GAP = 2  # pixels between a disc and the next, or the edge of the brain


@dataclass(frozen=True)
class Outcome:
    """Of one weight. ``auprc``: of the discs of each size against the healthy pixels; ``healthy``: their mean score."""

    auprc: tuple[float, ...]
    healthy: float

    @property
    def mean(self) -> float:
        return float(np.mean(self.auprc))


def restoration_spec(scorer: Spec) -> Spec:
    """The checkpoint's scorer if it is restoration, else restoration with its defaults."""
    return scorer if scorer.name == "restoration" else Spec("restoration")


def with_weight(spec: Spec, weight: float) -> Spec:
    """``spec`` with ``tv`` set to ``weight``."""
    return spec.having(tv=f"{weight:g}")


def outcomes_by_weight(
    checkpoint: Checkpoint, cohort: Cohort, run: Run, weights: Sequence[float] = GRID, slices: int = 32
) -> dict[float, Outcome]:
    """Restore ``slices`` lesion-free slices, spread over the cohort, with a disc of each size planted, at each weight.

    Raises
    ------
    UsageError
        The model has no objective to minimise.
    DataError
        No scan has a lesion-free slice, or none has room for the largest disc.
    """
    if not weights:
        raise UsageError("no weight to try", "--weights")
    spec = restoration_spec(checkpoint.scorer)
    method = build_method(replace(checkpoint, scorer=spec), run)
    with scratch() as folder:
        statistics = checkpoint.statistics
        healthy = load_slices(list(cohort), checkpoint.preparation, False, run, "healthy scans", folder, statistics)
        rows = np.unique(np.linspace(0, len(healthy), min(slices, len(healthy)) + 2)[1:-1].astype(np.intp))
        batch = healthy.batch(rows, run.device)
    radii = [mm / checkpoint.preparation.pixel_mm for mm in RADII_MM]
    image, planted = with_discs(batch, radii)
    if not all((planted == number).any() for number in range(1, len(radii) + 1)):
        raise DataError(f"no slice has room for a disc of {max(RADII_MM):g} mm", cohort.source, "Use more --slices.")
    found = {}
    for weight in run.track(weights, "restoring"):
        scorer = registry.build("scorers", with_weight(spec, weight))
        parts = zip(image.split(SLICES_AT_ONCE), batch.brain.split(SLICES_AT_ONCE), strict=True)
        score = torch.cat([method.score(x, brain, scorer).score for x, brain in parts])
        found[weight] = _judged(score.cpu().numpy(), batch.brain.cpu().numpy(), planted, len(radii))
    return found


def with_discs(batch: Batch, radii: Sequence[float]) -> tuple[Tensor, NDArray[np.uint8]]:
    """The slices with a bright disc of each radius (in pixels) where there is room, and the number of the radius (from
    1) at each pixel, (B, 1, S, S).
    """
    from scipy.ndimage import distance_transform_edt

    rng = np.random.default_rng(0)
    numbers = np.zeros(batch.brain.shape, np.uint8)
    y, x = np.indices(numbers.shape[2:])
    for own, brain in zip(numbers[:, 0], batch.brain[:, 0].cpu().numpy(), strict=True):
        for number in np.argsort(radii)[::-1]:  # the largest first, while there is room
            room = np.argwhere(distance_transform_edt(np.pad(brain & (own == 0), 1))[1:-1, 1:-1] > radii[number] + GAP)
            if len(room):
                v, u = room[rng.integers(len(room))]
                own[np.hypot(y - v, x - u) <= radii[number]] = number + 1
    return batch.image + CONTRAST * torch.from_numpy(numbers > 0).to(batch.image), numbers


def _judged(score: NDArray[np.float32], brain: NDArray[np.bool_], numbers: NDArray[np.uint8], sizes: int) -> Outcome:
    healthy = score[brain & (numbers == 0)]
    auprc = []
    for number in range(1, sizes + 1):
        disc = score[numbers == number]
        truth = np.arange(len(disc) + len(healthy)) < len(disc)
        auprc.append(float(average_precision(np.concatenate([disc, healthy]), truth)))
    return Outcome(tuple(auprc), float(healthy.mean()))
