"""median3d against SciPy and SimpleITK."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from benchmarks.kernels.harness import SHAPES, Row, brain, interleave
from uadtk.cleaners.median import Cleaner, Options
from uadtk.kernels import median3d

GOALS = {3: 40.0, 5: 75.0, 7: 50.0}
FLOORS = {3: 20.0, 5: 30.0, 7: 20.0}
THICK_SLICES = [(3, 5, 5), (1, 5, 5), (5, 5, 3), (5, 5, 1)]


def rows(quick: bool) -> Iterator[Row]:
    home = "sq" if quick else "mni"
    sample = brain(home)
    for size in (3, 5, 7):
        yield _case(f"{size}^3, residual, {home}", sample.residual, size, sample.mask, GOALS[size], FLOORS[size])
    for name in [] if quick else [name for name in SHAPES if name != home]:
        other = brain(name)
        yield _case(f"5^3, residual, {name}", other.residual, 5, other.mask, GOALS[5], FLOORS[5])
    if not quick:
        yield _case("5^3, signed residual, mni", sample.signed, 5, sample.mask, GOALS[5], FLOORS[5])
    for box in THICK_SLICES[:1] if quick else THICK_SLICES:
        yield _case(f"{box}, residual, {home}", sample.residual, box, sample.mask, None, 15.0)
    yield from map(_blended, [2.5] if quick else [1.0, 2.5, 5.0])
    dense = np.random.default_rng(0).standard_normal(sample.mask.shape, dtype=np.float32)
    yield _case(f"5^3, dense noise, {home}", dense, 5, None, 100.0, 40.0)


def first_call() -> None:
    median3d(np.zeros((4, 4, 4), np.float32), 5)


def _blended(slice_mm: float) -> Row:
    """The cleaner's blend of windows around 6 mm, on the network's pixels, beside its largest window alone."""
    sample, spacing_mm = brain((155, 128, 128)), (slice_mm, 1.625, 1.625)
    cleaner = Cleaner(Options(6.0, "mm"))
    windows = [window for _, window in cleaner.windows(spacing_mm)]
    medians = interleave(
        {
            "ours": lambda: cleaner.clean(sample.residual, sample.residual, sample.mask, spacing_mm),
            "its largest window": lambda: median3d(sample.residual, max(windows)),
        },
        repeats=5,
    )
    case = f"blend of {len(windows)} windows, 6 mm, slices of {slice_mm:g} mm"
    return Row("cleaner median", case, medians.pop("ours"), medians, 1 / 1.6)


def _case(case: str, volume: Any, size: Any, mask: Any, goal: float | None, floor: float) -> Row:
    box = (size,) * 3 if isinstance(size, int) else size
    image, radius = sitk.GetImageFromArray(volume), [width // 2 for width in reversed(box)]
    inside = np.ones(volume.shape, bool) if mask is None else mask
    found = median3d(volume, size, mask)
    expected = ndimage.median_filter(volume, box, mode="reflect")
    assert np.array_equal(found, np.where(inside, expected, 0))
    medians = interleave(
        {
            "ours": lambda: median3d(volume, size, mask),
            "scipy.ndimage.median_filter": lambda: ndimage.median_filter(volume, box, mode="reflect"),
            "SimpleITK.Median": lambda: sitk.Median(image, radius),
        },
        repeats=3,
        warmup=0,
    )
    return Row("median3d", case, medians.pop("ours"), medians, goal, floor)
