"""quantile against numpy.quantile of everything in memory: bit-identical, on every backend."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from backends import Backend, backend  # noqa: F401
from hypothesis import given, settings
from hypothesis import strategies as st

from uadtk.kernels.quantiles import quantile

# Few distinct values give ties; subnormals, both zeros and adjacent floats exercise the bit manipulation.
SPECIAL = [
    0.0,
    -0.0,
    1e-45,
    -1e-45,
    1e-39,
    1.0,
    float(np.nextafter(np.float32(1), np.float32(2))),
    -1.0,
    3.4e38,
    -3.4e38,
]
ELEMENTS = st.one_of(st.floats(-100, 100, width=32), st.sampled_from(SPECIAL).map(np.float32).map(float))
VOLUMES = st.lists(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=9), elements=ELEMENTS),
    min_size=1,
    max_size=4,
)
QUANTILES = st.one_of(st.floats(0, 1), st.sampled_from([0, 1, 0.5, 0.98, 0.9997]))


def streamed(volumes: Any) -> Any:
    """The same volumes as a callable, so that they are counted: small arrays in memory are passed to NumPy."""
    return lambda: iter(volumes)


def same(got: float, values: Any, q: float) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = np.quantile(values, float(q))
    assert wanted.dtype == np.float32
    np.testing.assert_array_equal(got, wanted)  # NaN equals NaN: the two largest floats of either sign overflow
    assert isinstance(got, float)


@settings(max_examples=40, deadline=None)
@given(volumes=VOLUMES, q=QUANTILES, data=st.data())
def test_equals_numpy(backend: Backend, volumes: list[Any], q: float, data: st.DataObject) -> None:  # noqa: F811
    masks = [data.draw(hnp.arrays(bool, volume.shape)) for volume in volumes]
    for chosen in (None, masks):
        values = np.concatenate([v[... if chosen is None else m].ravel() for v, m in zip(volumes, masks, strict=True)])
        if values.size:
            device_masks = None if chosen is None else [backend.array(mask) for mask in masks]
            device = [backend.array(volume) for volume in volumes]
            with np.errstate(over="ignore", invalid="ignore"):
                for form in (device, streamed(device)):
                    same(backend.call("quantile", form, q, masks=device_masks), values, q)


@pytest.mark.parametrize("kind", ["zeros", "equal", "residual", "signed", "dense"])
def test_larger_volumes(backend: Backend, kind: str) -> None:  # noqa: F811
    rng = np.random.default_rng(3)
    volume = rng.standard_normal((19, 23, 29)).astype(np.float32)
    volume = {
        "zeros": np.zeros_like(volume),
        "equal": np.full_like(volume, -0.3),
        "residual": np.maximum(volume - 1, 0),
        "signed": np.where(np.abs(volume) > 1, volume, 0).astype(np.float32),
        "dense": volume,
    }[kind]
    mask = rng.random(volume.shape) < 0.4
    mask[:9], mask[9:12] = False, True  # whole blocks outside and inside
    for q in (0, 0.5, 0.933, 0.9997, 1):
        twice = streamed([backend.array(volume)] * 2)
        same(backend.call("quantile", twice, q), np.stack([volume] * 2), q)
        same(backend.call("quantile", twice, q, masks=backend.array(mask)), np.stack([volume[mask]] * 2), q)
        same(backend.call("quantile", backend.array(volume), q, masks=backend.array(mask)), volume[mask], q)


def test_strides_dtypes_and_read_only(backend: Backend) -> None:  # noqa: F811
    volume = np.asfortranarray(np.random.default_rng(1).integers(-300, 300, (7, 8, 9)))[::-1, 1:, ::2]
    volume.flags.writeable = False
    mask = (volume > -250).astype(np.float64)
    for form in ([backend.array(volume)], streamed([backend.array(volume)])):
        same(backend.call("quantile", form, 0.3), volume.astype(np.float32), 0.3)
        masked = backend.call("quantile", form, 0.3, masks=[backend.array(mask)])
        same(masked, volume[mask != 0].astype(np.float32), 0.3)


def test_streams_from_disk_with_a_fixed_state(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.npy" for i in range(12)]
    for path in paths:
        np.save(path, rng.standard_normal((64, 100, 100)).astype(np.float32))

    def load() -> Iterator[Any]:
        return (np.load(path) for path in paths)

    quantile(load, 0.98)
    tracemalloc.start()
    try:
        got = quantile(load, 0.98)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    same(got, np.stack(list(load())), 0.98)
    volume_bytes = 64 * 100 * 100 * 4
    assert peak < 2 * volume_bytes + 4 * 2**20 < len(paths) * volume_bytes / 3


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_non_finite_voxels(bad: float) -> None:
    volume = np.ones((3, 4, 5), np.float32)
    volume[1, 2, 3] = bad
    for form in ([volume], streamed([volume])):
        with pytest.raises(ValueError, match="NaN or infinite"):
            quantile(form, 0.5)
        assert quantile(form, 0.5, masks=np.isfinite(volume)) == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"q": 1.01}, ValueError, r"q must lie in \[0, 1\]"),
        ({"q": float("nan")}, ValueError, r"q must lie in \[0, 1\]"),
        ({"volumes": []}, ValueError, "no voxel"),
        ({"volumes": [np.zeros((0, 2, 2))]}, ValueError, "no voxel"),
        ({"volumes": streamed([])}, ValueError, "no voxel"),
        ({"masks": np.zeros((2, 3, 4))}, ValueError, "no voxel"),
        ({"volumes": iter([np.ones((2, 3, 4))])}, TypeError, "read only once"),
        ({"masks": iter([np.ones((2, 3, 4))])}, TypeError, "read only once"),
        ({"masks": [np.ones((2, 3, 5))]}, ValueError, "mask has shape"),
        ({"masks": []}, ValueError, "fewer masks"),
        ({"masks": [np.ones((2, 3, 4))] * 2}, ValueError, "more masks"),
    ],
)
def test_errors_are_one_clear_line(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        quantile(**{"volumes": [np.ones((2, 3, 4))], "q": 0.5, **arguments})
    assert "\n" not in str(caught.value)


def test_volumes_that_change_between_the_walks() -> None:
    walks = iter([[np.ones(5)], [np.full(5, 2.0)]])
    with pytest.raises(ValueError, match="changed between"):
        quantile(lambda: next(walks), 0.5)
