"""aggregate and Aggregate against float64 NumPy, on every backend."""

from __future__ import annotations

import tracemalloc
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from backends import Backend, backend, compiled  # noqa: F401
from hypothesis import given, settings
from hypothesis import strategies as st

from uadtk.kernels._reference.residual import aggregate as reference

FINITE = st.one_of(
    st.floats(-1000, 1000, width=32), st.sampled_from([0.0, -0.0, 1e-40, -1e-40, 1.0]).map(np.float32).map(float)
)
SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, min_side=0, max_side=5)
DTYPES = st.sampled_from([np.float32, np.float64, np.int16, np.uint8])


def close(got: Any, wanted: Any) -> None:
    got, wanted = (pair if isinstance(pair, tuple) else (pair,) for pair in (got, wanted))
    for a, b in zip(got, wanted, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), shape=SHAPES, samples=st.integers(1, 9), dtype=DTYPES, variance=st.booleans())
@pytest.mark.parametrize("polarity", ["positive", "absolute"])
def test_equals_float64(
    backend: Backend,  # noqa: F811
    polarity: str,
    data: st.DataObject,
    shape: tuple[int, ...],
    samples: int,
    dtype: type,
    variance: bool,
) -> None:
    image: Any = data.draw(hnp.arrays(np.float32, shape, elements=FINITE)).astype(dtype, casting="unsafe", copy=False)
    batch = data.draw(hnp.arrays(np.float32, (samples, *shape), elements=FINITE))
    mask = data.draw(st.none() | hnp.arrays(bool, shape))
    image, batch = image[:, ::-1], np.asfortranarray(batch)
    batch.flags.writeable = False
    options: Any = {"polarity": polarity, "variance": variance}
    wanted = reference(image, batch, mask, **options)
    device_mask = None if mask is None else backend.array(mask)
    got = backend.call("aggregate", backend.array(image), backend.array(batch), device_mask, **options)
    close(backend.host(got), wanted)
    streamed = (backend.array(one) for one in batch)
    close(backend.host(backend.call("aggregate", backend.array(image), streamed, device_mask, **options)), wanted)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), shape=hnp.array_shapes(min_dims=3, max_dims=3, max_side=6), seed=st.integers(0, 99))
def test_slice_batches_from_every_plane_in_any_order(
    compiled: Backend,  # noqa: F811
    data: st.DataObject,
    shape: tuple[int, ...],
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    image, mask = rng.random(shape, np.float32), rng.random(shape) < 0.7
    running = compiled.call("Aggregate", compiled.array(image), compiled.array(mask), variance=True)
    residuals = np.full((24, *shape), np.nan)  # NaN: not added there
    layer = 0
    for _ in range(data.draw(st.integers(1, 8))):
        axis = data.draw(st.integers(0, 2))
        at = data.draw(st.integers(0, shape[axis] - 1))
        slices = data.draw(st.integers(1, shape[axis] - at))
        samples = data.draw(st.integers(1, 3))
        plane = tuple(n for i, n in enumerate(shape) if i != axis)
        batch = rng.random((samples, slices, *plane), np.float32)
        running.add(compiled.array(batch if samples > 1 else batch[0]), at=at, axis=axis)
        for sample in batch:
            box = (slice(None),) * axis + (slice(at, at + slices),)
            residuals[(layer, *box)] = np.maximum(image[box].astype(float) - np.moveaxis(sample, 0, axis), 0)
            layer += 1
    counts = np.maximum((~np.isnan(residuals)).sum(0), 1)
    mean = np.nansum(residuals, 0) / counts * mask
    variance = np.nansum((residuals - mean) ** 2, 0) / counts * mask
    close(compiled.host((running.mean, running.variance)), (mean, variance))


def test_what_lies_outside_the_mask_does_not_matter(backend: Backend) -> None:  # noqa: F811
    image = np.full((2, 3, 4), np.nan, np.float32)
    samples = np.full((5, 2, 3, 4), np.inf, np.float32)
    mask = np.zeros((2, 3, 4), np.uint8)
    image[0, 1], samples[:, 0, 1], mask[0, 1] = 2, 0.5, 7
    with np.errstate(invalid="ignore"):
        got = backend.call("aggregate", *map(backend.array, (image, samples, mask)), variance=True)
    mean, variance = backend.host(got)
    np.testing.assert_array_equal(mean, np.where(mask, 1.5, 0))
    np.testing.assert_array_equal(variance, np.zeros_like(mean))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("polarity", ["positive", "absolute"])
@pytest.mark.parametrize("samples", [1, 4])
def test_non_finite_inside_the_mask_is_an_error(
    compiled: Backend,  # noqa: F811
    bad: float,
    polarity: str,
    samples: int,
) -> None:
    image, batch = np.ones((2, 2, 2), np.float32), np.zeros((samples, 2, 2, 2), np.float32)
    batch[-1, 1, 1, 1] = bad
    with pytest.raises(ValueError, match="non-finite residual inside the mask"):
        compiled.call("aggregate", compiled.array(image), compiled.array(batch), polarity=polarity)
    running = compiled.call("Aggregate", compiled.array(image), polarity=polarity)
    running.add(compiled.array(batch))
    with pytest.raises(ValueError, match="non-finite residual inside the mask"):
        _ = running.mean


def test_small_spread_on_a_large_mean_survives_many_samples(backend: Backend) -> None:  # noqa: F811
    rng = np.random.default_rng(0)
    image = np.full((1, 7, 11), 1000, np.float32)
    batch = (0.01 * rng.standard_normal((1000, 1, 7, 11))).astype(np.float32)
    got = backend.call("aggregate", backend.array(image), backend.array(batch), variance=True)
    exact = image.astype(float) - batch
    # float32 sums of squares would be off by a factor of hundreds here.
    np.testing.assert_allclose(backend.host(got)[1], exact.var(0), rtol=1e-4)


def test_memory_does_not_grow_with_the_number_of_reconstructions() -> None:
    from uadtk.kernels import aggregate

    shape = (20, 60, 60)
    image = np.ones(shape, np.float32)
    aggregate(image, (np.zeros(shape, np.float32) for _ in range(2)), variance=True)  # compiled before the count
    tracemalloc.start()
    try:
        aggregate(image, (np.zeros(shape, np.float32) for _ in range(50)), variance=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * image.nbytes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": np.ones((3, 4))}, "image must be 3-D"),
        ({"mask": np.ones((2, 3, 5))}, "mask must have the image's shape"),
        ({"polarity": "negative"}, "polarity must be 'positive' or 'absolute'"),
        ({"reconstructions": np.ones((2, 3, 5))}, "reconstructions must be"),
        ({"reconstructions": np.ones((3, 4))}, "reconstructions must be"),
        ({"reconstructions": np.ones((0, 2, 3, 4))}, "no reconstruction"),
        ({"reconstructions": iter(())}, "no reconstruction"),
        ({"reconstructions": iter([np.ones((1, 3, 4))])}, "a reconstruction must have the image's shape"),
    ],
)
def test_errors_are_one_clear_line(arguments: dict[str, Any], message: str) -> None:
    from uadtk.kernels import aggregate

    valid = {"image": np.ones((2, 3, 4)), "reconstructions": np.ones((2, 3, 4))}
    with pytest.raises(ValueError, match=message) as caught:
        aggregate(**{**valid, **arguments})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("batch", "at", "axis", "message"),
    [
        ((1, 3, 4), 2, 0, "lie outside axis 0"),
        ((1, 3, 4), -1, 0, "lie outside axis 0"),
        ((3, 2, 4), 1, 1, "lie outside axis 1"),
        ((1, 3, 4), 0, 1, "slices along axis 1"),
        ((1, 3, 4), 0, 3, "slices along axis 3"),
        ((3, 4), 0, 0, "slices along axis 0"),
    ],
)
def test_slices_that_do_not_fit(batch: tuple[int, ...], at: int, axis: int, message: str) -> None:
    from uadtk.kernels import Aggregate

    running = Aggregate(np.ones((2, 3, 4)))
    with pytest.raises(ValueError, match=message):
        running.add(np.zeros(batch), at=at, axis=axis)
    assert not any(count.any() for count in running.counts)


def test_variance_that_was_not_kept() -> None:
    from uadtk.kernels import Aggregate

    with pytest.raises(ValueError, match="variance=True"):
        _ = Aggregate(np.ones((2, 3, 4))).variance
