"""The mask does not depend on what carries no information: the last digits of a spacing, the turn of a grid, the scale.

Volumes are compared in voxels, so that a spacing that is changed by 1 % does not count as a change of the mask.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from uadtk import checkpoint as checkpoints
from uadtk.core.finding import Segmentation
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.spec import parse_all
from uadtk.core.volume import Mask, Scan
from uadtk.io.read import read_scan
from uadtk.phantom import Phantom, make
from uadtk.pipeline.point import uncalibrated
from uadtk.pipeline.score import Method, build_method
from uadtk.pipeline.segment import segment
from uadtk.preparation import prepare
from uadtk.preparation.geometry import resampling_matrix

Bool = NDArray[np.bool_]
TIES_MM = (0.5, 0.6, 0.75, 0.8125, 1.0, 1.2, 1.5, 1.625, 2.0, 3.0, 3.25, 5.0, 6.5)  # of medians and of pixels
CLEANERS = ("erode:iterations=3", "prior:power=4", "median:size=6,unit=mm")


@cache
def shipped() -> Method:
    return build_method(checkpoints.open_checkpoint("scalespace"), Run())


@cache
def histeq() -> Method:
    return build_method(checkpoints.new("histeq", {}, Preparation(), cleaners=parse_all(list(CLEANERS))), Run())


def mask_of(scan: Scan, method: Method, brain: Mask | None = None) -> Bool:
    checkpoint = method.checkpoint
    point = checkpoint.point("p98") if checkpoint.points else uncalibrated(checkpoint, "high", 0.75, "")
    return segment(scan, method, point, Run(worst="red"), brain).mask.voxels


def changed(one: Bool, other: Bool) -> float:
    """Relative change of the volume."""
    return abs(float(other.sum()) / float(one.sum()) - 1)


@cache
def patient() -> Phantom:
    return make(5, lesions="ms", lesion_ml=15.0, slice_mm=3.0)


@cache
def mask_of_patient() -> Bool:
    return mask_of(patient().scan, histeq())


def sampled(scan: Scan, axis: int, mm: float) -> Scan:
    """The scan with another spacing along one axis."""
    old_mm, size = scan.spacing_mm[axis], scan.shape[axis]
    places = (np.arange(int(np.ceil(size * old_mm / mm))) + 0.5) * mm / old_mm - 0.5
    moved = np.moveaxis(np.tensordot(resampling_matrix(places, size), scan.voxels, (1, axis)), 0, axis)
    affine = scan.affine.copy()
    affine[:3, 3] += affine[:3, axis] * (0.5 * mm / old_mm - 0.5)
    affine[:3, axis] *= mm / old_mm
    floor = 0.1 * float(np.median(scan.voxels[scan.voxels > 0]))  # no faint rim around the brain
    return Scan(np.where(moved > floor, moved, 0).astype(np.float32), affine)


def with_spacing(scan: Scan, axis: int, by: float) -> Scan:
    """The same voxels; the header says that they are larger."""
    affine = scan.affine.copy()
    affine[:3, axis] *= by
    return Scan(scan.voxels, affine)


@pytest.mark.slow
@settings(max_examples=1, deadline=None, derandomize=True)
@given(st.integers(0, 2), st.one_of(st.floats(0.4, 8.0), st.sampled_from(TIES_MM)), st.sampled_from((0.999, 1.001)))
@example(0, 3.0, 0.999)
@example(1, 1.625, 1.001)
@example(2, 3.0, 0.999)
@example(2, 1.5, 1.001)
@example(2, 1.0, 0.999)
def test_a_spacing_off_by_a_tenth_of_a_percent_changes_no_mask_by_more_than_one(
    axis: int, mm: float, by: float
) -> None:
    scan = sampled(patient().scan, axis, mm)
    assert changed(mask_of(scan, shipped()), mask_of(with_spacing(scan, axis, by), shipped())) <= 0.01


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("size", [40, 41])
@pytest.mark.parametrize("mm", [1.625, 3.0, 3.25])
def test_no_face_of_a_brain_passes_its_mask_with_the_last_digit_of_a_spacing(axis: int, size: int, mm: float) -> None:
    """Even of a box, whose faces are flat and opposite each other: at most one of them."""
    voxels = np.zeros((60, 60, 24), np.float32)
    voxels[5 : 5 + size, 5 : 5 + size, 2:-2] = np.random.default_rng(0).uniform(50, 100, (size, size, 20))
    spacing_mm = np.array([2.5, 2.5, 5.0, 1.0])
    spacing_mm[axis] = mm
    scan = Scan(voxels, np.diag(spacing_mm))
    brains = [prepare(with_spacing(scan, axis, by), Preparation(), Run()).brain for by in (0.999, 1.0, 1.001)]
    face = max(np.count_nonzero(brains[1].any(axis=a)) for a in (1, 2))
    assert [np.count_nonzero(brain != brains[1]) <= face for brain in brains] == [True] * 3


def test_a_turned_header_alone_changes_nothing() -> None:
    scan = patient().scan
    turned = scan.affine.copy()
    turned[:3, :3] = Rotation.from_euler("xyz", [12, -8, 20], degrees=True).as_matrix() @ turned[:3, :3]
    np.testing.assert_array_equal(mask_of(Scan(scan.voxels, turned), histeq()), mask_of_patient())


def whole_head(voxels: NDArray[np.float32], brain: Bool) -> NDArray[np.float32]:
    """Air with noise, and a bright scalp around the brain."""
    rng = np.random.default_rng(0)
    air = np.abs(rng.normal(0, 8, voxels.shape)).astype(np.float32)
    reach = ndimage.distance_transform_edt(~brain, sampling=patient().scan.spacing_mm)
    return np.where((reach > 5) & (reach < 12), 600 + air, voxels + air).astype(np.float32)


@cache
def phantom_head() -> tuple[Scan, Bool]:
    found = patient()
    scan = Scan(whole_head(found.scan.voxels, found.brain.voxels), found.scan.affine)
    return scan, mask_of(scan, histeq(), found.brain)


def rescaled(scan: Scan, exponent: float, shift: float) -> Scan:
    """``a * x + b``: 1 becomes 10^exponent, 0 becomes ``shift`` times the brightest value."""
    voxels = scan.voxels.astype(np.float64)
    return Scan(((voxels + shift * voxels.max()) * 10.0**exponent).astype(np.float32), scan.affine)


scales = given(st.floats(-9, 9), st.floats(-3, 3))
Z_SCORED, SYMMETRIC = (-2.3, -0.2), (-2.0, -0.5)  # about what these normalisations make of a whole image


@pytest.mark.slow
@settings(max_examples=1, deadline=None, derandomize=True)
@scales
@example(-9.0, 0.0)
@example(9.0, -1.0)
@example(*Z_SCORED)
@example(*SYMMETRIC)
def test_any_scale_of_a_stripped_scan_gives_the_same_mask(exponent: float, shift: float) -> None:
    assert changed(mask_of_patient(), mask_of(rescaled(patient().scan, exponent, shift), histeq())) <= 0.01


@pytest.mark.slow
@settings(max_examples=1, deadline=None, derandomize=True)
@scales
@example(*Z_SCORED)
@example(*SYMMETRIC)
def test_any_scale_of_a_head_with_its_brain_mask_gives_the_same_mask(exponent: float, shift: float) -> None:
    scan, mask = phantom_head()
    assert changed(mask, mask_of(rescaled(scan, exponent, shift), histeq(), patient().brain)) <= 0.01


@pytest.mark.slow
@pytest.mark.parametrize(("exponent", "shift"), [(-9.0, 1.0), (9.0, -3.0), SYMMETRIC])
def test_any_scale_of_a_whole_head_gives_the_same_brain_and_mask(
    shared_data: Path, exponent: float, shift: float
) -> None:
    scan, one = head(shared_data)
    other = segmented(rescaled(scan, exponent, shift))
    assert one.scoring.brain_source == other.scoring.brain_source == "deepbet"
    assert changed(one.scoring.brain.voxels, other.scoring.brain.voxels) <= 0.01
    assert changed(one.mask.voxels, other.mask.voxels) <= 0.01


def segmented(scan: Scan) -> Segmentation:
    return segment(scan, shipped(), shipped().checkpoint.point("p98"), Run())


@cache
def head(shared_data: Path) -> tuple[Scan, Segmentation]:
    scan = read_scan(min((shared_data / "whole_head").glob("tabriz*"), key=lambda path: path.name))
    return scan, segmented(scan)
