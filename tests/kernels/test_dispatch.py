"""The type of the arrays chooses the implementation, and nothing moves between host and device unasked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
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
    with cupy_on_cpu() as cupy, pytest.raises(TypeError, match="host and device"):
        call(VOLUME, cupy.asarray(VOLUME))
