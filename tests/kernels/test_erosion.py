"""erode against SciPy on every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from backends import Backend, backend  # noqa: F401
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from uadtk.kernels import erode


def scipy_erosion(mask: np.ndarray, iterations: int, per_slice: bool) -> np.ndarray:
    if iterations == 0:
        return mask != 0
    if not per_slice:
        return ndimage.binary_erosion(mask, iterations=iterations)
    slices = [ndimage.binary_erosion(one, iterations=iterations) for one in mask]
    return np.array(slices, bool).reshape(mask.shape)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 12)] * 2, st.sampled_from([1, 2, 3, 7, 8, 9, 31, 63, 64, 65, 66, 127, 128, 130])),
    density=st.sampled_from([0.0, 0.5, 0.95, 0.995, 1.0]),
    iterations=st.integers(0, 5),
    per_slice=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_scipy(
    backend: Backend,  # noqa: F811
    shape: tuple[int, ...],
    density: float,
    iterations: int,
    per_slice: bool,
    seed: int,
) -> None:
    mask = np.random.default_rng(seed).random(shape) < density
    found = backend.host(backend.call("erode", backend.array(mask), iterations, per_slice=per_slice))
    assert found.dtype == bool
    np.testing.assert_array_equal(found, scipy_erosion(mask, iterations, per_slice))


@pytest.mark.parametrize("per_slice", [False, True])
@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_dtypes_strides_read_only_and_copies(backend: Backend, iterations: int, per_slice: bool) -> None:  # noqa: F811
    base = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((14, 20, 26)), 2)
    for mask in (base > 0, (base > 0).astype(np.uint8) * 3, np.maximum(base, 0).T, (base > 0)[::-1, :, 1::2]):
        mask.flags.writeable = False
        before = mask.copy()
        given_array = backend.array(mask)
        found = backend.call("erode", given_array, iterations, per_slice=per_slice)
        assert not np.shares_memory(found, given_array)
        np.testing.assert_array_equal(backend.host(found), scipy_erosion(mask, iterations, per_slice))
        np.testing.assert_array_equal(mask, before)


@pytest.mark.parametrize("shape", [(0, 4, 5), (3, 0, 5), (3, 4, 0)])
def test_empty(backend: Backend, shape: tuple[int, ...]) -> None:  # noqa: F811
    found = backend.call("erode", backend.array(np.ones(shape, bool)))
    assert (found.shape, found.dtype) == (shape, bool)


def test_more_iterations_than_voxels(backend: Backend) -> None:  # noqa: F811
    assert not backend.host(backend.call("erode", backend.array(np.ones((9, 9, 9), bool)), 50)).any()


@pytest.mark.parametrize(
    ("error", "match", "args"),
    [
        (ValueError, "3-D", (np.ones((3, 3)),)),
        (ValueError, "at least 0", (np.ones((3, 3, 3)), -1)),
        (TypeError, "integer", (np.ones((3, 3, 3)), 1.5)),
    ],
)
def test_refuses(error: type[Exception], match: str, args: tuple[Any, ...]) -> None:
    with pytest.raises(error, match=match):
        erode(*args)
