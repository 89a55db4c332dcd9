"""curvature_flow against ITK and against its definition, on every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from backends import Backend, backend  # noqa: F401
from hypothesis import given, settings
from hypothesis import strategies as st

from uadtk.kernels import curvature_flow
from uadtk.kernels._reference import curvature as reference

SPACINGS = [(1.0, 1.0, 1.0), (3.0, 0.9, 0.8)]


@pytest.mark.parametrize("shape", [(9, 14, 11), (1, 12, 13), (7, 1, 9), (1, 1, 1), (2, 2, 2)])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_equals_itk(backend: Backend, shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:  # noqa: F811
    sitk = pytest.importorskip("SimpleITK")
    volume = np.random.default_rng(0).random(shape).astype(np.float32)
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing(spacing[::-1])
    expected = sitk.GetArrayFromImage(sitk.CurvatureFlow(image, timeStep=0.0625, numberOfIterations=5))
    found = backend.host(backend.call("curvature_flow", backend.array(volume), 5, 0.0625, spacing))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert volume.size < 9 or np.abs(expected - volume).max() > 0.1  # it did something


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 7), st.integers(1, 8), st.integers(1, 20)),
    iterations=st.integers(0, 4),
    spacing=st.tuples(*[st.sampled_from([0.8, 1.0, 3.0])] * 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_definition(
    backend: Backend,  # noqa: F811
    shape: tuple[int, ...],
    iterations: int,
    spacing: tuple[float, float, float],
    seed: int,
) -> None:
    volume = np.random.default_rng(seed).random(shape).astype(np.float32)
    found = backend.host(backend.call("curvature_flow", backend.array(volume), iterations, 0.05, spacing))
    # Rounding grows where the gradient is nearly zero, and the flow then undoes it: 2e-6 of a range of 1.
    expected = reference.curvature_flow(volume, iterations, 0.05, spacing)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


def test_flat_and_planar_volumes_stay(backend: Backend) -> None:  # noqa: F811
    flat = np.full((4, 5, 6), 0.3, np.float32)
    ramp = np.broadcast_to(np.arange(6, dtype=np.float32) / 8, (4, 5, 6))  # level sets without curvature
    for volume, inner in ((flat, np.s_[:]), (ramp, np.s_[:, :, 1:-1])):
        found = backend.host(backend.call("curvature_flow", backend.array(volume), 1))
        np.testing.assert_array_equal(found[inner], volume[inner])


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_do_not_change_a_bit(threads: int) -> None:
    volume = np.random.default_rng(4).random((3, 20, 20)).astype(np.float32)
    np.testing.assert_array_equal(curvature_flow(volume, threads=threads), curvature_flow(volume))


def test_dtypes_strides_read_only_and_copies(backend: Backend) -> None:  # noqa: F811
    base = np.random.default_rng(0).integers(0, 2, (6, 8, 10))
    for volume in (base.astype(np.int16), base.astype(np.float64).T, base.astype(np.float32)[::-1, :, ::2]):
        volume.flags.writeable = False
        given_array = backend.array(volume)
        for iterations in (0, 2):
            found = backend.call("curvature_flow", given_array, iterations)
            assert not np.shares_memory(found, given_array)
            assert found.flags.c_contiguous
            expected = reference.curvature_flow(volume, iterations)
            np.testing.assert_allclose(backend.host(found), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("shape", [(0, 4, 5), (3, 0, 5), (3, 4, 0)])
def test_empty(backend: Backend, shape: tuple[int, ...]) -> None:  # noqa: F811
    if backend.name == "reference":
        pytest.skip("NumPy does not pad empty axes")
    found = backend.call("curvature_flow", backend.array(np.zeros(shape)))
    assert (found.shape, found.dtype) == (shape, np.float32)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(backend: Backend, value: float) -> None:  # noqa: F811
    if backend.name == "reference":
        pytest.skip("the definition does not check")
    volume = np.ones((3, 4, 5), np.float32)
    volume[1, 2, 3] = value
    with pytest.raises(ValueError, match="not finite"):
        backend.call("curvature_flow", backend.array(volume))


@pytest.mark.parametrize(
    ("error", "match", "arguments"),
    [
        (ValueError, "3-D", {"volume": np.zeros((3, 3))}),
        (TypeError, "real numbers", {"volume": np.zeros((3, 3, 3), complex)}),
        (ValueError, "iterations", {"iterations": -1}),
        (TypeError, "integer", {"iterations": 2.5}),
        (ValueError, "time_step", {"time_step": 0.0}),
        (ValueError, "time_step", {"time_step": float("nan")}),
        (ValueError, "spacing_mm", {"spacing_mm": (1, 1)}),
        (ValueError, "spacing_mm", {"spacing_mm": (1, 0, 1)}),
        (ValueError, "threads", {"threads": 0}),
    ],
)
def test_refuses(error: type[Exception], match: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(error, match=match):
        curvature_flow(**{"volume": np.zeros((3, 3, 3), np.float32), **arguments})
