"""``uadtk.kernels`` is self-contained: cheap to import, with every public kernel documented for use on plain arrays."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import subprocess
import sys

import pytest

from uadtk import kernels

OUTSIDE = ("nibabel", "cc3d", "torch", "SimpleITK", "sklearn", "cupy", "uadtk.core", "uadtk.io")
HEAVY = ("numpy", "numba", "scipy", *OUTSIDE)


def modules_after(code: str) -> set[str]:
    """Names in ``sys.modules`` of a fresh interpreter that ran ``code``."""
    printed = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"], check=True, capture_output=True, text=True
    )
    return set(printed.stdout.split())


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert modules_after("import uadtk.kernels; dir(uadtk.kernels)").isdisjoint(HEAVY)


def test_importing_every_kernel_imports_neither_numba_nor_nibabel_nor_torch() -> None:
    loaded = modules_after("from uadtk.kernels import *")
    assert loaded.isdisjoint(set(HEAVY) - {"numpy"})


def test_calling_a_kernel_needs_neither_nibabel_nor_torch() -> None:
    loaded = modules_after(
        "import numpy as np\nfrom uadtk.kernels import aggregate\naggregate(np.ones((1, 1, 2)), np.zeros((1, 1, 2)))"
    )
    assert "numba" in loaded
    assert loaded.isdisjoint(OUTSIDE)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'median4d'"):
        _ = kernels.median4d  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", kernels.__all__)
def test_public_name_is_the_documented_object_however_often_it_is_asked_for(name: str) -> None:
    first, second = getattr(kernels, name), getattr(kernels, name)
    assert first is second
    assert inspect.isroutine(first) or inspect.isclass(first)


@pytest.mark.parametrize("name", kernels.__all__)
def test_docs_name_every_argument_the_shapes_and_the_errors(name: str) -> None:
    # From the defining module: the package's own attribute is covered by the test above.
    kernel = getattr(importlib.import_module(f"uadtk.kernels.{kernels._MODULES[name]}"), name)
    docs = inspect.getdoc(kernel) or ""
    for section in ("Parameters", "Raises"):
        assert re.search(rf"^{section}\n-+$", docs, re.MULTILINE), f"no section {section}"
    for argument in inspect.signature(kernel).parameters:
        assert re.search(rf"^(\w+, )*{argument}(, \w+)*( :.*)?$", docs, re.MULTILINE), f"{argument} is not explained"
    assert re.search(r"\((N, )?z, y, x\)|(any|same|image's) shape", docs), "no shape"
    assert re.search(r"ValueError|TypeError", docs), "no error"


@pytest.mark.parametrize("name", kernels.__all__)
def test_every_kernel_has_a_definition_and_both_implementations(name: str) -> None:
    home = kernels._MODULES[name]
    reference = importlib.import_module(f"uadtk.kernels._reference.{home}")
    if name != "Aggregate":  # the streaming form of aggregate
        assert inspect.isfunction(getattr(reference, name))
    for backend in ("_numba", "_cupy"):
        assert importlib.util.find_spec(f"uadtk.kernels.{backend}.{home}") is not None
