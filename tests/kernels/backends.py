"""The implementations that the kernel tests run against, as one fixture.

``UADTK_TEST_BACKENDS=reference,numba,cuda-cpu,cupy`` names them; one that is named and cannot run fails. Unset: the
first three, where ``cuda-cpu`` (the CUDA source and its host code, on the CPU) is left out on a machine without g++.

Use: ``from backends import Backend, backend, compiled  # noqa: F401`` (those that the file needs), then

    def test_mean(backend: Backend) -> None:
        mean = backend.host(backend.call("aggregate", backend.array(image), backend.array(samples)))
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cuda_on_cpu
import numpy as np
import pytest

from uadtk import kernels

KNOWN = ("reference", "numba", "cuda-cpu", "cupy")


def under_test() -> list[str]:
    """The backends named in the environment, or those that can run here."""
    named = os.environ.get("UADTK_TEST_BACKENDS")
    if named:
        names = [name.strip() for name in named.split(",")]
        unknown = sorted(set(names) - set(KNOWN))
        if unknown:
            raise pytest.UsageError(f"UADTK_TEST_BACKENDS: unknown {', '.join(unknown)}; there are {', '.join(KNOWN)}")
        return names
    return ["reference", "numba", *(["cuda-cpu"] if cuda_on_cpu.compiler() else [])]


class Backend:
    """Public kernels on one kind of array."""

    def __init__(self, name: str, cupy: Any = None) -> None:
        self.name = name
        self._cupy = cupy

    def array(self, values: Any) -> Any:
        """``values`` where this backend computes: NumPy or (stand-in for) CuPy; strides and dtype are kept."""
        values = np.asarray(values)
        return values if self._cupy is None else self._cupy.asarray(values)

    def host(self, value: Any) -> Any:
        """A result as NumPy; tuples item by item."""
        if isinstance(value, tuple):
            return tuple(self.host(item) for item in value)
        return value if self._cupy is None or not isinstance(value, self._cupy.ndarray) else self._cupy.asnumpy(value)

    def call(self, function: str, *args: Any, **kwargs: Any) -> Any:
        """A public kernel by name; for ``reference`` its definition."""
        home = kernels._MODULES[function]
        package = "uadtk.kernels._reference" if self.name == "reference" else "uadtk.kernels"
        return getattr(importlib.import_module(f"{package}.{home}"), function)(*args, **kwargs)


@contextmanager
def opened(name: str) -> Iterator[Backend]:
    """One backend, ready; fails if it cannot run here."""
    if name == "cuda-cpu":
        if cuda_on_cpu.compiler() is None:
            pytest.fail("UADTK_TEST_BACKENDS names cuda-cpu, and g++ is not installed")
        with cuda_on_cpu.cupy_on_cpu() as cupy:
            yield Backend(name, cupy)
    elif name == "cupy":
        try:
            cupy = importlib.import_module("cupy")
            devices = cupy.cuda.runtime.getDeviceCount()
        except Exception as error:
            pytest.fail(f"UADTK_TEST_BACKENDS names cupy, and it cannot run: {error}")
        if not devices:
            pytest.fail("UADTK_TEST_BACKENDS names cupy, and there is no device")
        yield Backend(name, cupy)
    else:
        yield Backend(name)


@pytest.fixture(scope="module", params=under_test())
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Each backend under test in turn; module-wide, so that hypothesis may use it."""
    with opened(request.param) as one:
        yield one


@pytest.fixture(scope="module", params=[name for name in under_test() if name != "reference"])
def compiled(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Each backend but the definition, which checks no arguments and has no streaming forms."""
    with opened(request.param) as one:
        yield one
