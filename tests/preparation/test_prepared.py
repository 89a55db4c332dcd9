"""Prepared scans are plain data: they pickle, and lead back to the scan's own grid in another process too."""

from __future__ import annotations

import multiprocessing
import pickle
from dataclasses import fields, is_dataclass, replace
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from tests.scans import SMALL_AFFINE, small_brain, turned
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.volume import Mask, Scan, Volume
from uadtk.preparation import Prepared, prepare
from uadtk.preparation.registration import Registration

SHIFTED = Registration(  # by 12 mm to the left, and turned a little about the long axis: no search, so it is quick
    "rigid", (0.0, 0.0, 0.1, 12.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0), (44, 52, 24), SMALL_AFFINE
)
ATLAS = find_spec("SimpleITK") is not None and find_spec("nilearn") is not None
WAYS = ["none", pytest.param("rigid", marks=pytest.mark.skipif(not ATLAS, reason="needs SimpleITK and nilearn"))]


@cache
def prepared(register: str, codes: str = "LPI") -> Prepared:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("uadtk.preparation.register", lambda *_: SHIFTED)
        stored = turned(Volume(small_brain()[0], SMALL_AFFINE), codes) if register == "none" else None
        scan = Scan(small_brain()[0], SMALL_AFFINE) if stored is None else Scan(stored.voxels, stored.affine)
        return prepare(scan, Preparation(register=register), Run())  # type: ignore[arg-type]


def ways_back(one: Prepared) -> tuple[np.ndarray, np.ndarray]:
    """The slices on the scan's own grid, and a lesion of it on the slices."""
    lesion = np.zeros(one.own_brain.shape, bool)
    lesion[tuple(slice(n // 3, n // 2) for n in lesion.shape)] = True
    return one.to_own_grid(one.image), one.to_slices(lesion)


def in_another_process(pickled: bytes) -> tuple[np.ndarray, np.ndarray]:
    return ways_back(pickle.loads(pickled))


def equal(one: Any, other: Any) -> bool:
    if is_dataclass(one):
        return type(one) is type(other) and all(
            equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(one)
        )
    return bool(np.array_equal(one, other)) and type(one) is type(other)


@pytest.mark.parametrize("register", WAYS)
def test_what_is_pickled_is_the_same_and_leads_the_same_way_back(register: str) -> None:
    before = prepared(register)
    after = pickle.loads(pickle.dumps(before))
    assert equal(after, before)
    assert (after.registration is None) == (register == "none")
    for one, other in zip(ways_back(before), ways_back(after), strict=True):
        assert one.any()
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("register", WAYS)
def test_the_way_back_is_that_of_the_scan(register: str) -> None:
    """Not of its neighbour: the shape and the place are the scan's own."""
    one = prepared(register)
    back, slices = ways_back(one)
    assert back.shape == one.own_brain.shape
    assert slices.shape == one.image.shape
    inside = one.own_brain.voxels & (back > 0)
    assert inside.sum() > 0.8 * one.own_brain.voxels.sum()
    assert not slices.all()


def test_another_registration_leads_elsewhere() -> None:
    """So that a registration that was lost on the way would be noticed."""
    pytest.importorskip("SimpleITK", reason="the preprocess extra is not installed")
    pytest.importorskip("nilearn", reason="the phantom extra is not installed")
    one = prepared("rigid")
    other = replace(one, registration=replace(SHIFTED, parameters=(0.0, 0.0, 0.0, -12.0, 0.0, 0.0)))
    assert not np.array_equal(ways_back(one)[0], ways_back(other)[0])


def test_a_brain_mask_is_part_of_it() -> None:
    image, brain, _ = small_brain()
    one = prepare(Scan(image, SMALL_AFFINE), Preparation(), Run(), Mask(brain, SMALL_AFFINE))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(one)).own_brain.voxels, brain)


@pytest.mark.slow
def test_a_process_that_shares_nothing_can_use_it() -> None:
    before = prepared("none")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(in_another_process, (pickle.dumps(before),))
    for one, other in zip(ways_back(before), there, strict=True):
        np.testing.assert_array_equal(one, other)
