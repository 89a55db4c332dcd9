"""median3d against SciPy, bit for bit, on every backend."""

from __future__ import annotations

from itertools import product
from typing import Any

import cuda_on_cpu
import numpy as np
import pytest
from backends import Backend, backend  # noqa: F401
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from uadtk.kernels import blended_median3d, median3d
from uadtk.kernels._numba.networks import Network

NETWORK = Network(min, max)
# Each is compiled once per backend: no axis, one or two of them flat, three rows of pairs, windows for thick slices.
BOXES = [(3, 3, 3), (1, 5, 5), (3, 5, 1), (1, 7, 3), (5, 1, 1), (1, 1, 1)]
LARGE_BOXES = [(5, 5, 5), (3, 5, 5), (5, 5, 3), (7, 7, 7)]
FILLS = ("noise", "ties", "sparse", "constant", "subnormal", "zeros of both signs", "infinite")


def scipy_median(volume: np.ndarray, box: Any, mask: np.ndarray | None = None) -> np.ndarray:
    if mask is None:
        return ndimage.median_filter(volume.astype(np.float32), box, mode="reflect")
    return np.where(mask, ndimage.median_filter(np.where(mask, volume, 0).astype(np.float32), box, mode="reflect"), 0)


def filled(shape: tuple[int, ...], fill: str, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(shape).astype(np.float32)
    choices = {
        "noise": noise,
        "ties": np.round(noise),
        "sparse": np.where(noise > 1.5, noise, 0),
        "constant": np.full(shape, -3.5),
        "subnormal": noise * 1e-41,
        "zeros of both signs": np.copysign(np.where(noise > 1, noise, 0), rng.standard_normal(shape)),
        "infinite": np.where(np.abs(noise) > 0.7, np.copysign(np.inf, noise), noise),
    }
    return choices[fill].astype(np.float32)


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 8), st.integers(1, 11), st.integers(1, 37)),
    box=st.sampled_from(BOXES),
    fill=st.sampled_from(FILLS),
    masked=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_scipy(
    backend: Backend,  # noqa: F811
    shape: tuple[int, ...],
    box: tuple[int, int, int],
    fill: str,
    masked: bool,
    seed: int,
) -> None:
    volume = filled(shape, fill, seed)
    mask = np.random.default_rng(seed).random(shape) < 0.7 if masked else None
    args = (backend.array(volume), box, None if mask is None else backend.array(mask))
    found = backend.host(backend.call("median3d", *args))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, scipy_median(volume, box, mask))


@pytest.mark.parametrize("box", LARGE_BOXES)
def test_large_boxes_equal_scipy(box: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(3)
    for shape in ((1, 1, 1), (3, 2, 5), (9, 14, 40), (12, 9, 16)):
        volume = np.maximum(rng.standard_normal(shape), 0).astype(np.float32)
        volume[:, : shape[1] // 3] = 0
        mask = rng.random(shape) < 0.8
        np.testing.assert_array_equal(median3d(volume, box), scipy_median(volume, box))
        np.testing.assert_array_equal(median3d(volume, box, mask), scipy_median(volume, box, mask))


def test_bits_equal_scipy_and_simpleitk() -> None:
    sitk = pytest.importorskip("SimpleITK")
    volume = np.random.default_rng(0).standard_normal((11, 23, 35)).astype(np.float32)
    found = median3d(volume, 5)
    np.testing.assert_array_equal(found.view(np.uint32), scipy_median(volume, 5).view(np.uint32))
    inner = (slice(2, -2),) * 3  # SimpleITK repeats the border voxel instead of mirroring
    itk = sitk.GetArrayFromImage(sitk.Median(sitk.GetImageFromArray(volume), [2, 2, 2]))
    np.testing.assert_array_equal(found[inner], itk[inner])


@pytest.mark.slow
def test_cuda_five_cubed() -> None:
    volume = filled((5, 7, 40), "noise", 1)
    volume[:, 4:] = 0
    with cuda_on_cpu.cupy_on_cpu() as cupy:
        found = cupy.asnumpy(median3d(cupy.asarray(volume)))
    np.testing.assert_array_equal(found, scipy_median(volume, 5))


@pytest.mark.parametrize("depth", [1, 2, 7, 30])
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_do_not_change_a_bit(depth: int, threads: int) -> None:
    volume = filled((depth, 20, 30), "zeros of both signs", 5)
    alone = median3d(volume, 3)
    np.testing.assert_array_equal(median3d(volume, 3, threads=threads).view(np.uint32), alone.view(np.uint32))


def test_strides_dtypes_and_read_only(backend: Backend) -> None:  # noqa: F811
    base = np.random.default_rng(2).integers(-50, 50, (12, 10, 14))
    for volume in (base.astype(np.int16), base.astype(np.float64)[::-2, :, 1::3], base.astype(np.float32).T, base > 0):
        volume.flags.writeable = False
        before = volume.copy()
        np.testing.assert_array_equal(
            backend.host(backend.call("median3d", backend.array(volume), 3)), scipy_median(volume, 3)
        )
        np.testing.assert_array_equal(volume, before)
    mask = (base > 0).astype(np.uint8)[::-1]
    found = backend.host(backend.call("median3d", backend.array(base), (1, 5, 5), backend.array(mask)))
    np.testing.assert_array_equal(found, scipy_median(base, (1, 5, 5), mask != 0))


@pytest.mark.parametrize("shape", [(0, 4, 5), (3, 0, 5), (3, 4, 0)])
def test_empty(backend: Backend, shape: tuple[int, ...]) -> None:  # noqa: F811
    found = backend.call("median3d", backend.array(np.zeros(shape, np.float32)), 3)
    assert (found.shape, found.dtype) == (shape, np.float32)


def test_far_clusters_leave_nothing_stale() -> None:
    """Columns between two clusters are skipped in one pair of planes and used in the next."""
    volume = np.zeros((8, 40, 90), np.float32)
    volume[0:2, :, :] = 5
    volume[5:7, 2:8, 3:9] = volume[5:7, 30:38, 78:88] = 7
    for box in BOXES:
        np.testing.assert_array_equal(median3d(volume, box), scipy_median(volume, box))


def test_nan(backend: Backend) -> None:  # noqa: F811
    if backend.name == "reference":
        pytest.skip("the definition does not check")
    volume = np.ones((4, 5, 6), np.float32)
    volume[1, 2, 3] = np.nan
    with pytest.raises(ValueError, match="holds NaN, which has no median"):
        backend.call("median3d", backend.array(volume), 3)
    mask = np.ones(volume.shape, bool)
    with pytest.raises(ValueError, match="NaN inside the mask"):
        backend.call("median3d", backend.array(volume), 3, backend.array(mask))
    mask[1, 2, 3] = False
    found = backend.host(backend.call("median3d", backend.array(volume), 3, backend.array(mask)))
    np.testing.assert_array_equal(found, mask)


@pytest.mark.parametrize(
    ("error", "match", "arguments"),
    [
        (ValueError, "3-D", {"volume": np.zeros((3, 3))}),
        (ValueError, "size must be", {"size": 4}),
        (ValueError, "size must be", {"size": 9}),
        (ValueError, "size must be", {"size": (3, 3)}),
        (ValueError, "size must be", {"size": (3, 3, -1)}),
        (TypeError, "integer", {"size": 3.0}),
        (ValueError, r"mask has shape \(3, 3, 4\)", {"mask": np.ones((3, 3, 4), bool)}),
        (ValueError, "threads", {"threads": 0}),
        (TypeError, "real numbers", {"volume": np.zeros((3, 3, 3), complex)}),
    ],
)
def test_refuses(error: type[Exception], match: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(error, match=match):
        median3d(**{"volume": np.zeros((3, 3, 3), np.float32), **arguments})


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 70), st.integers(1, 11), st.integers(1, 37)),
    boxes=st.lists(st.sampled_from(BOXES), min_size=1, max_size=4),
    fill=st.sampled_from([fill for fill in FILLS if fill != "infinite"]),  # inf - inf is NaN
    masked=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_blend_is_the_weighted_sum_of_its_medians(
    backend: Backend,  # noqa: F811
    shape: tuple[int, ...],
    boxes: list[tuple[int, int, int]],
    fill: str,
    masked: bool,
    seed: int,
) -> None:
    """Bit for bit; with more planes than are loaded at once, too."""
    volume = filled(shape, fill, seed)
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < 0.7 if masked else None
    shares = rng.dirichlet(np.ones(len(boxes))) if len(boxes) > 1 else [1.0]
    windows = [(float(share), box) for share, box in zip(shares, boxes, strict=True)]
    expected = np.zeros(shape, np.float32)
    for share, box in windows:
        expected += np.float32(share) * scipy_median(volume, box, mask)
    found = backend.call(
        "blended_median3d", backend.array(volume), windows, None if mask is None else backend.array(mask)
    )
    np.testing.assert_array_equal(backend.host(found), expected)


@pytest.mark.parametrize("masked", [False, True])
def test_a_weight_that_is_rounded_to_one_is_added_as_others_are(masked: bool) -> None:
    spike = np.zeros((5, 5, 5), np.float32)
    spike[2, 2, 2] = 9
    mask = np.ones(spike.shape, bool) if masked else None
    found = blended_median3d(spike, [(1e-9, 1), (1 - 1e-9, 3)], mask)
    np.testing.assert_array_equal(found, np.float32(1e-9) * spike)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_do_not_change_a_blend(threads: int) -> None:
    volume = filled((67, 9, 20), "noise", 0)
    windows = [(0.25, 1), (0.5, (3, 5, 1)), (0.25, 3)]
    np.testing.assert_array_equal(blended_median3d(volume, windows, threads=threads), blended_median3d(volume, windows))


@pytest.mark.parametrize("windows", [[], [(0.5, 3)], [(1.5, 3), (-0.5, 1)], [(float("nan"), 3)]])
def test_a_blend_refuses_other_weights(windows: list[tuple[float, int]]) -> None:
    with pytest.raises(ValueError, match="weights must be above 0 and add up to 1"):
        blended_median3d(np.zeros((3, 3, 3), np.float32), windows)


def test_a_blend_refuses_nan() -> None:
    volume = np.zeros((40, 3, 3), np.float32)
    volume[39, 1, 1] = np.nan
    with pytest.raises(ValueError, match="holds NaN, which has no median"):
        blended_median3d(volume, [(0.5, 3), (0.5, 1)])


def test_networks_sort_zeros_and_ones() -> None:
    """The zero-one principle: a network that sorts every list of zeros and ones sorts everything."""
    for n in (1, 3, 5, 7):
        for bits in product((0, 1), repeat=n):
            assert NETWORK.sort(bits) == sorted(bits)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=3), st.data())
@settings(max_examples=60, deadline=None)
def test_networks_merge_and_select(sizes: list[int], data: st.DataObject) -> None:
    # Sorted lists of zeros and ones are given by their number of zeros.
    lists = []
    for n in sizes:
        zeros = data.draw(st.integers(0, n))
        lists.append([0] * zeros + [1] * (n - zeros))
    union = sorted(value for values in lists for value in values)
    assert NETWORK.merge_all(lists) == union
    last = data.draw(st.integers(0, len(union) - 1))
    first = data.draw(st.integers(0, last))
    assert NETWORK.middle(lists, first, last) == union[first : last + 1]
    a, b = lists[0], [0, 1, 1]
    rank = data.draw(st.integers(0, len(a) + len(b) - 1))
    assert NETWORK.select(a, b, rank) == sorted(a + b)[rank]


@pytest.mark.parametrize(("values", "exchanges"), [(3, 3), (5, 9), (7, 16)])
def test_sorting_uses_the_fewest_exchanges(values: int, exchanges: int) -> None:
    count = 0

    def low(a: int, b: int) -> int:
        nonlocal count
        count += 1
        return min(a, b)

    Network(low, max).sort(range(values))
    assert count == exchanges
