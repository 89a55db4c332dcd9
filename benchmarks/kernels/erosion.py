"""erode against SciPy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from benchmarks.kernels.harness import SHAPES, Row, brain, interleave
from uadtk.kernels import erode

GOALS = {1: 15.0, 3: 8.0, 5: 6.0}
FLOORS = {1: 6.0, 3: 4.0, 5: 3.0}
PEER = "scipy.ndimage.binary_erosion"


def rows(quick: bool) -> Iterator[Row]:
    for name in ["sq"] if quick else SHAPES:
        for iterations in (1, 3, 5):
            yield _case(name, iterations, per_slice=False)
    yield _case("sq" if quick else "mni", 3, per_slice=True)


def first_call() -> None:
    erode(np.ones((4, 4, 4), bool))


def _case(name: str, iterations: int, *, per_slice: bool) -> Row:
    mask = brain(name).mask
    cross = ndimage.generate_binary_structure(3, 1)
    if per_slice:
        cross[0] = cross[2] = False
    assert np.array_equal(
        erode(mask, iterations, per_slice=per_slice), ndimage.binary_erosion(mask, cross, iterations=iterations)
    )
    medians = interleave(
        {
            "ours": lambda: erode(mask, iterations, per_slice=per_slice),
            PEER: lambda: ndimage.binary_erosion(mask, cross, iterations=iterations),
        },
        repeats=9,
    )
    case = f"{iterations} iterations, {'each slice, ' if per_slice else ''}{name}"
    return Row("erode", case, medians.pop("ours"), medians, GOALS[iterations], FLOORS[iterations])
