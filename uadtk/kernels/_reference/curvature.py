"""The definition of ``curvature_flow``, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray


def curvature_flow(
    volume: NDArray[np.generic],
    iterations: int = 5,
    time_step: float = 0.125,
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
    *,
    threads: int = 1,
) -> NDArray[np.float32]:
    flow = volume.astype(np.float32, order="C")
    for _ in range(iterations):
        padded = np.pad(flow.astype(np.float64), 1, mode="edge")

        def at(*steps: tuple[int, int], padded: NDArray[np.float64] = padded) -> NDArray[np.float64]:
            """The volume shifted by (axis, +-1) steps."""
            shift = dict(steps)
            return padded[
                tuple(slice(1 + shift.get(i, 0), n - 1 + shift.get(i, 0)) for i, n in enumerate(padded.shape))
            ]

        first = [(at((i, 1)) - at((i, -1))) / 2 / h for i, h in enumerate(spacing_mm)]
        second = [(at((i, 1)) - 2 * at() + at((i, -1))) / h**2 for i, h in enumerate(spacing_mm)]
        steepness = sum(f**2 for f in first)
        speed = sum(s * (steepness - f**2) for s, f in zip(second, first, strict=True))
        for i, j in combinations(range(3), 2):
            mixed = at((i, 1), (j, 1)) - at((i, 1), (j, -1)) - at((i, -1), (j, 1)) + at((i, -1), (j, -1))
            speed -= 2 * first[i] * first[j] * mixed / (4 * spacing_mm[i] * spacing_mm[j])
        speed = np.where(steepness < 1e-9, 0, speed / np.maximum(steepness, 1e-9))
        flow = (flow + time_step * speed).astype(np.float32)
    return flow
