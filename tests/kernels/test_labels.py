"""Components and their statistics against SciPy, on every backend."""

from __future__ import annotations

from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from backends import Backend, backend  # noqa: F401
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from uadtk.kernels import label_components, label_stats
from uadtk.kernels._reference import labels as reference

SHAPES = st.tuples(*[st.integers(0, 9)] * 3)


def sparse(shape: tuple[int, ...], seed: int, share: float) -> Any:
    return np.random.default_rng(seed).random(shape) < share


@settings(max_examples=50, deadline=None)
@given(
    shape=SHAPES,
    seed=st.integers(0, 99),
    share=st.sampled_from([0, 0.1, 0.3, 0.6, 1]),
    connectivity=st.sampled_from([6, 18, 26]),
    min_size=st.sampled_from([1, 2, 8]),
)
def test_components_equal_their_definition(
    backend: Backend,  # noqa: F811
    shape: tuple[int, int, int],
    seed: int,
    share: float,
    connectivity: int,
    min_size: int,
) -> None:
    mask = sparse(shape, seed, share)
    wanted, count = reference.label_components(mask, connectivity, min_size)
    labels, found = backend.host(backend.call("label_components", backend.array(mask), connectivity, min_size))
    np.testing.assert_array_equal(labels, wanted)
    assert labels.dtype == np.int32
    assert found == count
    assert isinstance(found, int)


@pytest.mark.parametrize("connectivity", [6, 18, 26])
def test_larger_volume_agrees_with_scipy(backend: Backend, connectivity: int) -> None:  # noqa: F811
    if backend.name == "reference":
        pytest.skip("it is SciPy")
    mask = sparse((23, 31, 37), 0, 0.12)
    labels, count = backend.host(backend.call("label_components", backend.array(mask), connectivity))
    structure = ndimage.generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity])
    theirs, number = ndimage.label(mask, structure)
    assert count == number == np.unique(np.stack([labels[mask], theirs[mask]]), axis=1).shape[1]
    assert (np.diff(np.bincount(labels.ravel())[1:]) <= 0).all()


def test_equal_sizes_come_in_the_order_of_the_array() -> None:
    labels, count = label_components(np.array([[[1, 0, 1, 1, 0, 1]], [[0, 0, 0, 0, 0, 0]]]))
    np.testing.assert_array_equal(labels[0, 0], [2, 0, 1, 1, 0, 3])
    assert count == 3


def test_strides_dtypes_and_read_only(backend: Backend) -> None:  # noqa: F811
    mask = np.asfortranarray(sparse((9, 8, 12), 3, 0.4) * 2.5)[::-1, 1:, ::2]
    mask.flags.writeable = False
    wanted, count = reference.label_components(mask, 6, 2)
    labels, found = backend.host(backend.call("label_components", backend.array(mask), 6, 2))
    np.testing.assert_array_equal(labels, wanted)
    assert found == count


@settings(max_examples=40, deadline=None)
@given(
    labels=SHAPES.flatmap(
        lambda shape: hnp.arrays(
            st.sampled_from([np.int32, np.uint8, np.int64]), shape, elements=st.sampled_from([0, 0, 1, 2, 5])
        )
    ),
    seed=st.integers(0, 99),
)
def test_statistics_equal_their_definition(backend: Backend, labels: Any, seed: int) -> None:  # noqa: F811
    score = np.random.default_rng(seed).standard_normal(labels.shape).astype(np.float32)
    score[labels == 0] = np.nan  # ignored
    wanted = reference.label_stats(labels, score)
    got = backend.host(backend.call("label_stats", backend.array(labels), backend.array(score)))
    for ours, plain in zip(got, wanted, strict=True):
        assert ours.shape == plain.shape
        assert ours.dtype == plain.dtype
    np.testing.assert_array_equal(got[0], wanted.voxels)
    np.testing.assert_array_equal(got[2], wanted.peak)
    np.testing.assert_allclose(got[1], wanted.centroid, rtol=1e-12)
    np.testing.assert_allclose(got[3], wanted.mean, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_scores_inside_a_label(bad: float) -> None:
    labels, score = np.ones((1, 2, 3), int), np.full((1, 2, 3), 1.0)
    score[0, 1, 1] = bad
    with pytest.raises(ValueError, match="NaN or infinite values inside a label"):
        label_stats(labels, score)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: label_components(np.ones((2, 2))), ValueError, "mask must be 3-D"),
        (lambda: label_components(np.ones((2, 2, 2)), 4), ValueError, "connectivity must be 6, 18 or 26, got 4"),
        (lambda: label_components(np.ones((2, 2, 2)), 6.0), TypeError, "integer"),  # type: ignore[arg-type]
        (lambda: label_components(np.ones((2, 2, 2)), 6, 0), ValueError, "min_size must be at least 1"),
        (lambda: label_stats(np.ones((2, 2), int), np.ones((2, 2))), ValueError, "labels must be 3-D"),
        (lambda: label_stats(np.ones((2, 2, 2)), np.ones((2, 2, 2))), TypeError, "labels must be integers"),
        (lambda: label_stats(np.ones((2, 2, 2), int), np.ones((2, 2, 3))), ValueError, "score has shape"),
        (lambda: label_stats(-np.ones((2, 2, 2), int), np.ones((2, 2, 2))), ValueError, "labels must lie between"),
        (lambda: label_stats(np.full((1, 1, 1), 1 << 40), np.ones((1, 1, 1))), ValueError, "labels must lie between"),
    ],
)
def test_errors_are_one_clear_line(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
