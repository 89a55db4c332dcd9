"""aggregate: Monte Carlo mean and variance against NumPy's two passes and NumPy's Welford, and the plain residual."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.kernels.harness import SHAPES, Row, brain, interleave
from uadtk.kernels import Aggregate, aggregate

NUMPY_TWO_PASS, NUMPY_WELFORD = "numpy two-pass", "numpy Welford"
GOAL = {NUMPY_TWO_PASS: 4.0, NUMPY_WELFORD: 2.0}
FLOOR = {NUMPY_TWO_PASS: 2.0, NUMPY_WELFORD: 1.2}


def rows(quick: bool) -> Iterator[Row]:
    repeats = 5 if quick else 9
    for samples in (1, 10, 100):
        yield _monte_carlo(samples, repeats)
    yield _stream(repeats)
    for name in ["sq"] if quick else SHAPES:
        yield _plain(name, 2 * repeats)


def first_call() -> None:
    image = np.ones((1, 2, 3), np.float32)
    aggregate(image, image[None], variance=True)
    running = Aggregate(image, variance=True)
    running.add(image)
    _ = running.mean, running.variance


def _monte_carlo(samples: int, repeats: int) -> Row:
    """One slice batch, 16 x 128 x 128, of a brain: the mask covers about half of it."""
    image, mask = _slab()
    rng = np.random.default_rng(0)
    batch = image + 0.1 * rng.standard_normal((samples, *image.shape), dtype=np.float32)
    wanted = np.where(mask, np.maximum(image.astype(np.float64) - batch, 0), 0)
    for got, exact in zip(aggregate(image, batch, mask, variance=True), (wanted.mean(0), wanted.var(0)), strict=True):
        assert np.abs(got - exact).max() <= 1e-6
    medians = interleave(
        {
            "ours": lambda: aggregate(image, batch, mask, variance=True),
            NUMPY_TWO_PASS: lambda: _two_pass(image, batch, mask),
            NUMPY_WELFORD: lambda: _welford(image, batch, mask),
        },
        repeats,
    )
    targets = (GOAL, FLOOR) if samples == 100 else (None, None)
    return Row("aggregate", f"mean and variance, 16x128x128, N={samples}", medians.pop("ours"), medians, *targets)


def _stream(repeats: int) -> Row:
    """The same 100 samples as in the pipeline: ten at a time into a running volume."""
    image, mask = _slab()
    rng = np.random.default_rng(0)
    batch = image + 0.1 * rng.standard_normal((100, *image.shape), dtype=np.float32)

    def ours() -> Any:
        running = Aggregate(image, mask, variance=True)
        for start in range(0, 100, 10):
            running.add(batch[start : start + 10])
        return running.mean, running.variance

    wanted = np.where(mask, np.maximum(image.astype(np.float64) - batch, 0), 0)
    for got, exact in zip(ours(), (wanted.mean(0), wanted.var(0)), strict=True):
        assert np.abs(got - exact).max() <= 1e-6
    medians = interleave({"ours": ours, NUMPY_WELFORD: lambda: _welford(image, batch, mask)}, repeats)
    goal, floor = ({NUMPY_WELFORD: target[NUMPY_WELFORD]} for target in (GOAL, FLOOR))
    case = "the same streamed, 10 x (10, 16x128x128)"
    return Row("Aggregate", case, medians.pop("ours"), medians, goal, floor)


def _plain(name: str, repeats: int) -> Row:
    """One reconstruction of a whole volume: memory-bound, so NumPy is close."""
    sample = brain(name)
    image = sample.signed + 1
    reconstruction = np.ones_like(image)
    weights = sample.mask.astype(np.float32)
    assert np.array_equal(
        aggregate(image, reconstruction, sample.mask), np.maximum(image - reconstruction, 0) * weights
    )
    medians = interleave(
        {
            "ours": lambda: aggregate(image, reconstruction, sample.mask),
            "numpy expression": lambda: np.maximum(image - reconstruction, 0) * weights,
        },
        repeats,
    )
    return Row("aggregate", f"one residual, {name} {image.shape}", medians.pop("ours"), medians, 2.0, 1.2)


def _slab() -> tuple[Any, Any]:
    sample = brain("sq")
    box = (slice(56, 72), slice(None), slice(13, 141))
    return np.ascontiguousarray(sample.signed[box]), np.ascontiguousarray(sample.mask[box])


def _two_pass(image: Any, batch: Any, mask: Any) -> tuple[Any, Any]:
    residual = np.maximum(image - batch, 0)
    residual *= mask
    return residual.mean(0), residual.var(0)


def _welford(image: Any, batch: Any, mask: Any) -> tuple[Any, Any]:
    """NumPy with in-place buffers: its fastest form that we found."""
    mean, spread = np.zeros_like(image), np.zeros_like(image)
    residual, step = np.empty_like(image), np.empty_like(image)
    for k, reconstruction in enumerate(batch, start=1):
        np.subtract(image, reconstruction, out=residual)
        np.maximum(residual, 0, out=residual)
        residual *= mask
        residual -= mean
        np.multiply(residual, np.float32(1 / k), out=step)
        mean += step
        np.multiply(residual, residual, out=residual)
        residual *= np.float32((k - 1) / k)
        spread += residual
    return mean, spread / np.float32(len(batch))
