"""How much the volume of a finding differs in a repeated scan of the same head: measured on phantoms.

The volumes are in ``repeatability.json``, with the command that measured them (``benchmarks/repeatability.py``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

EDGES_ML = (0.1, 0.2, 0.5, 2.0, 10.0)
QUANTILE = 0.95
FEWEST = 20  # findings of a size in both scans: of fewer, the largest difference is no 95th percentile


@dataclass(frozen=True)
class Size:
    """Findings of about ``volume_ml`` (the larger of two volumes): ``n``, ``once`` of them in one of two scans only.

    ``limit``: of those in both, 95 % differ by at most this share of the volume.
    """

    volume_ml: float
    n: int
    once: int
    limit: float


@dataclass(frozen=True)
class Repeatability:
    """``checkpoint`` and ``threshold``: what it was measured for. ``sizes``: by volume."""

    checkpoint: str
    threshold: float
    heads: int
    command: str
    slices_mm: tuple[float, ...]
    sizes: tuple[Size, ...]

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Repeatability:
        return cls(
            record["checkpoint"],
            record["point"]["threshold"],
            record["heads"],
            record["command"],
            tuple(record["slices_mm"]),
            _sizes(np.array(record["pairs_ml"], dtype=np.float64)),
        )

    def limit_ml(self, volume_ml: float) -> float:
        """Of findings in both of two repeated scans, 95 % differ by at most this. ``volume_ml``: of the larger."""
        return volume_ml * self._at(volume_ml, [size.limit for size in self.sizes])

    def once(self, volume_ml: float) -> float:
        """The share of findings of this volume that are in one of two repeated scans only."""
        return self._at(volume_ml, [size.once / size.n for size in self.sizes])

    def _at(self, volume_ml: float, values: list[float]) -> float:
        return float(np.interp(np.log(volume_ml), np.log([size.volume_ml for size in self.sizes]), values))


@cache
def shipped() -> Repeatability:
    return Repeatability.of(json.loads((files("uadtk.metrics") / "repeatability.json").read_text(encoding="utf-8")))


def _sizes(pairs: NDArray[np.float64]) -> tuple[Size, ...]:
    """Between ``EDGES_ML``, of which those are left out that leave fewer than ``FEWEST`` on a side."""
    larger, both = pairs.max(axis=1), pairs.min(axis=1) > 0
    bounds = [0.0]
    for edge in EDGES_ML:
        if min((both & (larger > bounds[-1]) & (larger <= edge)).sum(), (both & (larger > edge)).sum()) >= FEWEST:
            bounds.append(edge)
    found = []
    for low, high in pairwise([*bounds, np.inf]):
        own = (larger > low) & (larger <= high)
        off = np.abs(np.diff(pairs[own & both]))[:, 0] / larger[own & both]
        limit = float(np.quantile(off, QUANTILE, method="higher"))
        middle = float(np.exp(np.log(larger[own]).mean()))
        found.append(Size(middle, int(own.sum()), int((own & ~both).sum()), limit))
    return tuple(found)
