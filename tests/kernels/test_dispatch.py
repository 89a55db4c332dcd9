"""The type of the arrays selects the implementation, and nothing is copied between host and device implicitly."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from backends import opened, under_test
from cuda_on_cpu import cupy_on_cpu

from uadtk.kernels import Aggregate, aggregate
from uadtk.kernels._dispatch import implementation, is_cupy
from uadtk.kernels.quantiles import quantile

VOLUME = np.ones((2, 3, 4), np.float32)


def test_numpy_and_lists_run_numba() -> None:
    assert implementation("residual", VOLUME, [1.0], None).__name__ == "uadtk.kernels._numba.residual"


def test_no_array_at_all_runs_numba() -> None:
    assert implementation("residual", None).__name__ == "uadtk.kernels._numba.residual"


def test_cupy_arrays_run_cuda_and_stay_on_the_device() -> None:
    with cupy_on_cpu() as cupy:
        volume = cupy.asarray(VOLUME)
        assert is_cupy(volume)
        assert implementation("residual", volume, None).__name__ == "uadtk.kernels._cupy.residual"
        assert is_cupy(aggregate(volume, volume))
        running = Aggregate(volume, variance=True)
        running.add(volume)
        assert is_cupy(running.mean)
        assert is_cupy(running.variance)


@pytest.mark.parametrize(
    "call",
    [
        lambda host, device: aggregate(host, device),
        lambda host, device: aggregate(device, device, host),
        lambda host, device: aggregate(device, iter([host])),
        lambda host, device: Aggregate(device, host),
        lambda host, device: Aggregate(host).add(device),
        lambda host, device: quantile([host], 0.5, masks=[device]),
    ],
)
def test_mixing_host_and_device_is_an_error(call: Any) -> None:
    with cupy_on_cpu() as cupy, pytest.raises(TypeError, match="some arrays are on the host and some on the device"):
        call(VOLUME, cupy.asarray(VOLUME))


def test_a_named_backend_that_cannot_run_fails_and_does_not_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(pytest.fail.Exception, match="names cupy"), opened("cupy"):
        pass
    monkeypatch.setenv("PATH", "")
    with pytest.raises(pytest.fail.Exception, match="names cuda-cpu"), opened("cuda-cpu"):
        pass


def test_backends_are_named_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UADTK_TEST_BACKENDS", "numba, cupy")
    assert under_test() == ["numba", "cupy"]
    monkeypatch.setenv("UADTK_TEST_BACKENDS", "numba,gpu")
    with pytest.raises(pytest.UsageError, match="unknown gpu"):
        under_test()
