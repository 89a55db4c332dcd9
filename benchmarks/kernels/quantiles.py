"""quantile over a cohort, against numpy.percentile with everything in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.kernels.harness import SHAPES, Row, brain, interleave
from uadtk.kernels import quantile

PEER = "np.percentile in memory"


def rows(quick: bool) -> Iterator[Row]:
    repeats = 3 if quick else 7
    for name in ["sq"] if quick else SHAPES:
        yield _case(f"98th of 6 residual volumes, {name}", [brain(name).residual] * 6, None, 5.0, 2.5, repeats)
    sample = brain("sq" if quick else "mni")
    dense = np.random.default_rng(0).standard_normal(sample.mask.shape, dtype=np.float32)
    for volumes in (1, 12) if quick else (1, 6, 30):
        case = f"98th of {volumes} signed {'volume' if volumes == 1 else 'volumes'}"
        yield _case(case, [sample.signed] * volumes, None, 5.0, 2.5, repeats)
    yield _case("98th inside the mask, 6 volumes", [sample.signed] * 6, [sample.mask] * 6, None, None, repeats)
    yield _case("98th of 6 dense volumes", [dense] * 6, None, 5.0, 2.5, repeats)


def first_call() -> None:
    volume = np.arange(8, dtype=np.float32)
    quantile(lambda: iter([volume]), 0.5)  # arrays in memory this small would be passed to NumPy


def _case(case: str, volumes: Any, masks: Any, goal: float | None, floor: float | None, repeats: int) -> Row:
    if masks is None:
        stacked = np.concatenate([volume.ravel() for volume in volumes])
    else:
        stacked = np.concatenate([volume[mask] for volume, mask in zip(volumes, masks, strict=True)])
    for q in (0.0, 0.5, 0.933, 0.98, 0.9997, 1.0):
        assert quantile(volumes, q, masks=masks) == np.quantile(stacked, q)
    medians = interleave(
        {
            "ours": lambda: quantile(volumes, 0.98, masks=masks),
            PEER: lambda: np.percentile(stacked, 98.0),
        },
        repeats,
    )
    return Row("quantile", case, medians.pop("ours"), medians, goal, floor)
