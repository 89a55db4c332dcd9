"""The weight of total variation in restoration: chosen on healthy scans, before any lesion is seen.

You et al., *Unsupervised lesion detection via image restoration with a normative prior* (MIDL 2019): of a grid of
weights, take the one that changes healthy slices least. With a small weight the model removes healthy detail; with a
large one the steps oscillate. The minimum lies in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from uadtk import registry
from uadtk.checkpoint import Checkpoint
from uadtk.core.errors import UsageError
from uadtk.core.run import Run
from uadtk.core.spec import Spec
from uadtk.io.cohort import Cohort
from uadtk.io.write import scratch
from uadtk.pipeline.score import SLICES_AT_ONCE, build_method
from uadtk.training.slices import load_slices

GRID = tuple(round(0.2 * i, 1) for i in range(20))  # You et al.: 0 to 3.8


def restoration_spec(scorer: Spec) -> Spec:
    """The checkpoint's scorer if it is restoration, else restoration with its defaults."""
    return scorer if scorer.name == "restoration" else Spec("restoration")


def with_weight(spec: Spec, weight: float) -> Spec:
    """``spec`` with ``tv`` set to ``weight``."""
    return spec.having(tv=f"{weight:g}")


def changes_by_weight(
    checkpoint: Checkpoint, cohort: Cohort, run: Run, weights: Sequence[float] = GRID, slices: int = 32
) -> dict[float, float]:
    """Mean |y - restored y| over the brain of ``slices`` lesion-free slices, spread over the cohort, per weight.

    Raises
    ------
    UsageError
        The model has no objective to go down.
    DataError
        No scan has a lesion-free slice.
    """
    if not weights:
        raise UsageError("no weight to try", "--weights")
    spec = restoration_spec(checkpoint.scorer)
    method = build_method(replace(checkpoint, scorer=spec), run)
    with scratch() as folder:
        statistics = checkpoint.statistics
        healthy = load_slices(list(cohort), checkpoint.preparation, False, run, "healthy scans", folder, statistics)
        rows = np.unique(np.linspace(0, len(healthy) - 1, min(slices, len(healthy))).round().astype(np.intp))
        batch = healthy.batch(rows, run.device)
    changes = {}
    for weight in run.track(weights, "restoring"):
        scorer = registry.build("scorers", with_weight(spec, weight).having(polarity="absolute"))
        parts = zip(batch.image.split(SLICES_AT_ONCE), batch.brain.split(SLICES_AT_ONCE), strict=True)
        total = torch.stack([scorer.score(method.model, x, brain).score.sum() for x, brain in parts]).sum()
        changes[weight] = float(total / batch.brain.sum())
    return changes
