"""Slices of the demo phantom, to train on for seconds; the mean image is what a model has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

import uadtk.phantom
from uadtk.core.model import Batch, Turn
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.io.read import read_scan
from uadtk.networks.distances import l1
from uadtk.preparation import prepare
from uadtk.training.optimisers import Optimisers, take_turns


@cache
def phantom(side: int) -> Batch:
    """Every second slice of the phantom, 128 pixels averaged down to ``side``."""
    folder = Path(uadtk.phantom.__file__).parent / "demo"
    prepared = prepare(read_scan(folder / "FLAIR.nii.gz"), Preparation(), Run())
    image, brain = (torch.from_numpy(array)[::2, None].float() for array in (prepared.image, prepared.brain))
    inside = F.max_pool2d(brain, 128 // side) > 0
    slices = Batch(F.avg_pool2d(image, 128 // side), inside, inside | True)
    return slices.each(lambda t: t[brain.mean((1, 2, 3)) > 0.02])


def learn(turns: Sequence[Turn], optimisers: Optimisers, batch: Batch, steps: int, at_once: int = 8) -> None:
    """``steps`` random batches of ``at_once`` slices; torch's generator decides which."""
    for _ in range(steps):
        rows = torch.randperm(len(batch.image))[:at_once]
        take_turns(turns, optimisers, [batch.each(lambda t, rows=rows: t[rows])])  # type: ignore[misc]


def error_and_that_of_the_mean(model: Any, batch: Batch) -> tuple[float, float]:
    """Σ|x - x̂| per slice, of the model and of the mean image."""
    with torch.inference_mode():
        rebuilt = model.eval().reconstruct(batch.image)
    return float(l1(batch.image, rebuilt).mean()), float(l1(batch.image, batch.image.mean(0, keepdim=True)).mean())
