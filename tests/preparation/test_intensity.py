"""Any intensity scale: the same slices, brain and mask for every rescaling of a scan."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from tests.conftest import SMALL_AFFINE, small_brain
from uadtk import checkpoint as checkpoints
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.volume import Mask, Scan
from uadtk.preparation import Prepared, prepare
from uadtk.preparation.background import background, dark_end, foreground
from uadtk.preparation.brain import STRIPPED, find_brain, is_stripped
from uadtk.preparation.gate import numbers

RECIPE = Preparation(side="128")


def prepared(voxels: NDArray[np.floating], brain: NDArray[np.bool_] | None = None, run: Run | None = None) -> Prepared:
    scan = Scan(np.asarray(voxels, np.float32), SMALL_AFFINE)
    return prepare(scan, RECIPE, run or Run(), None if brain is None else Mask(brain, SMALL_AFFINE))


def whole_head(seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A brain in scalp and noisy air, as a magnitude image: nothing is negative."""
    image, brain, _ = small_brain(seed)
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in image.shape], indexing="ij"))
    scalp = ((grid**2).sum(0) < 0.98) & ~brain
    noise = np.abs(rng.normal(0, 8, image.shape))
    return np.where(scalp, 800 + noise, image + noise).astype(np.float32), brain


RESCALINGS = {
    "z-scored": lambda x: (x - x.mean()) / x.std(),
    "[-1, 1]": lambda x: 2 * (x - x.min()) / (x.max() - x.min()) - 1,
    "CT-like offset": lambda x: x - 1024.0,
    "tiny": lambda x: x * 1e-9,
    "huge": lambda x: x * 1e9,
    "far from 0": lambda x: x + 5000.0,
}


@pytest.mark.parametrize("name", RESCALINGS)
def test_a_rescaled_stripped_scan_gives_the_same_slices(name: str) -> None:
    image, _, _ = small_brain()
    one, other = prepared(image), prepared(RESCALINGS[name](image.astype(np.float64)))
    assert other.brain_source == STRIPPED
    np.testing.assert_array_equal(other.own_brain.voxels, one.own_brain.voxels)
    np.testing.assert_array_equal(other.brain, one.brain)
    np.testing.assert_allclose(other.image, one.image, atol=2e-3)


@pytest.mark.parametrize("name", RESCALINGS)
def test_a_rescaled_head_with_its_brain_mask_gives_the_same_slices(name: str) -> None:
    image, brain = whole_head()
    one, other = prepared(image, brain), prepared(RESCALINGS[name](image.astype(np.float64)), brain)
    np.testing.assert_allclose(other.image, one.image, atol=2e-3)


@pytest.mark.parametrize("name", RESCALINGS)
def test_a_rescaled_head_is_never_taken_for_a_stripped_scan(name: str) -> None:
    image, _ = whole_head()
    assert not is_stripped(Scan(RESCALINGS[name](image.astype(np.float64)).astype(np.float32), SMALL_AFFINE))


@settings(max_examples=25, deadline=None)
@given(st.floats(-9, 9), st.floats(-3, 3))
def test_any_rescaling_keeps_brain_and_slices(power: float, shift: float) -> None:
    image, _, _ = small_brain()
    one, other = prepared(image), prepared((image / 1000.0 + shift) * 10**power)
    np.testing.assert_array_equal(other.own_brain.voxels, one.own_brain.voxels)
    np.testing.assert_allclose(other.image, one.image, atol=5e-3)


def test_a_scan_normalised_within_its_mask_keeps_its_brain_and_nearly_its_slices() -> None:
    """z-scored inside the brain, 0 outside: half the tissue is darker than the background."""
    image, brain, _ = small_brain()
    tissue = image[brain]
    scored = np.where(brain, (image - tissue.mean()) / tissue.std(), 0)
    said: list[str] = []
    one, other = prepared(image), prepared(scored, run=Run(say=said.append))
    np.testing.assert_array_equal(other.own_brain.voxels, one.own_brain.voxels)
    assert any("darker than the background" in line for line in said)
    # Its 0 is the darkest fluid, not the air: every slice is as if that much had been subtracted.
    floor = float(np.sort(tissue)[int(0.001 * (tissue.size - 1))]) / one.intensity
    within = binary_erosion(one.brain, np.ones((1, 3, 3)), 3)  # at the rim pixels mix with what is outside
    expected = np.maximum(one.image - floor, 0) / (1 - floor)
    np.testing.assert_allclose(other.image[within], expected[within], atol=0.02)


def test_raw_scans_count_from_0() -> None:
    image, brain, _ = small_brain()
    assert background(Scan(image, SMALL_AFFINE)) == 0
    assert prepared(image).decisions["intensity_0"] == 0
    head, _ = whole_head()
    head[0, 0] = 0
    assert prepared(head, brain).dark < 1


def test_a_little_ringing_below_0_is_no_tissue() -> None:
    """Interpolation after stripping leaves small values on both sides of 0 around the brain."""
    image, brain, _ = small_brain()
    image[2, 2:40, 3] = -3
    scan = Scan(image, SMALL_AFFINE)
    assert not foreground(scan, background(scan))[2, 2:40, 3].any()
    assert find_brain(scan)[0].voxels.sum() == brain.sum()


def test_the_dark_end_is_the_background_unless_the_brain_is_darker() -> None:
    values = np.linspace(-1, 1, 1001, dtype=np.float32)
    assert dark_end(values + 1, 0.0) == 0
    assert dark_end(values, 0.0) == pytest.approx(-1, abs=0.01)


def test_the_pseudo_healthy_image_is_as_bright_as_the_scan() -> None:
    from uadtk.pipeline.score import build_method, score_map

    image, _, _ = small_brain()
    method = build_method(checkpoints.new("histeq", {}, RECIPE), Run())
    shifted = score_map(Scan(image - 500, SMALL_AFFINE), method, Run())
    plain = score_map(Scan(image, SMALL_AFFINE), method, Run())
    np.testing.assert_allclose(shifted.score.voxels, plain.score.voxels, atol=1e-3)
    assert shifted.decisions["intensity_0"] == -500


@pytest.mark.parametrize("level", [0.0, -1000.0, 3.5])
def test_the_gate_and_the_preparation_share_one_background(level: float) -> None:
    """A stripped scan, and a head in noisy air: preparation, brain search and gate start from the same intensity."""
    image, brain, _ = small_brain()
    stripped = Scan((image + np.float32(level)), SMALL_AFFINE)
    assert background(stripped) == level
    head, _ = whole_head()
    noisy = Scan(head + np.float32(level), SMALL_AFFINE)
    assert level <= background(noisy) < level + 1
    one, other = (
        numbers(Scan(scan.voxels - background(scan), SMALL_AFFINE), Mask(brain, SMALL_AFFINE))
        for scan in (stripped, noisy)
    )
    for name in ("level_50", "noise", "bias"):
        assert one[name] == pytest.approx(other[name], abs=0.02)
