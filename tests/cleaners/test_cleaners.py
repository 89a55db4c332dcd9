"""Cleaners: what the median's window is in voxels, and what erosion leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.stats import rankdata

from uadtk.cleaners import bilateral, crest, erode, fill, median, prior
from uadtk.core.cleaner import kept_by
from uadtk.core.errors import UsageError
from uadtk.core.options import build

Spacing = tuple[float, float, float]
IMAGELESS = np.zeros((0, 0, 0), np.float32)  # for cleaners that do not look at the image


@pytest.mark.parametrize(
    ("size", "unit", "spacing_mm", "windows"),
    [
        (5, "voxel", (1.0, 1.0, 1.0), {(5, 5, 5): 1}),  # the paper
        (5, "voxel", (8.0, 0.47, 0.47), {(5, 5, 5): 1}),  # voxels know nothing of millimetres
        (5, "mm", (1.0, 1.0, 1.0), {(5, 5, 5): 1}),  # the same at 1 mm
        (6, "mm", (2.0, 2.0, 2.0), {(3, 3, 3): 1}),
        (6, "mm", (3.0, 2.0, 2.0), {(1, 3, 3): 0.5, (3, 3, 3): 0.5}),  # two slices: between one and three
        (6, "mm", (1.0, 2.0, 2.0), {(5, 3, 3): 0.5, (7, 3, 3): 0.5}),
        (5, "mm", (8.0, 0.47, 0.47), {(1, 7, 7): 1}),  # 11 voxels would be 5 mm; the filter goes to 7
        (1, "voxel", (1.0, 1.0, 1.0), {(1, 1, 1): 1}),
        (4, "voxel", (1.0, 1.0, 1.0), {(3, 3, 3): 0.5, (5, 5, 5): 0.5}),
        (4.5, "mm", (2.0, 1.0, 1.0), {(3, 5, 5): 0.625, (1, 5, 5): 0.125, (1, 3, 3): 0.25}),
        (50, "voxel", (1.0, 1.0, 1.0), {(7, 7, 7): 1}),
    ],
)
def test_the_medians_windows(size: float, unit: str, spacing_mm: Spacing, windows: dict[Any, float]) -> None:
    found = median.Cleaner(build(median.Options, {"size": size, "unit": unit}, "median")).windows(spacing_mm)
    assert {window: weight for weight, window in found} == pytest.approx(windows)


@given(st.tuples(*[st.floats(0.4, 8.0)] * 3), st.floats(1.0, 12.0))
def test_the_physical_width_is_the_one_asked_for(spacing_mm: Spacing, size: float) -> None:
    """The mean width of the windows is the wanted one, on every axis: no rounding, so no ties."""
    found = median.Cleaner(median.Options(size=size, unit="mm")).windows(spacing_mm)
    for axis, mm in enumerate(spacing_mm):
        mean = sum(weight * window[axis] for weight, window in found)
        assert mean == pytest.approx(min(max(size / mm, 1), 7))
    assert sum(weight for weight, _ in found) == pytest.approx(1)
    assert all(n % 2 == 1 for _, window in found for n in window)
    assert len(found) <= 4


@settings(max_examples=30, deadline=None)
@given(st.one_of(st.floats(0.4, 8.0), st.sampled_from([6.0, 3.0, 2.0, 1.5, 1.2, 1.0, 0.75, 0.6, 0.5])))
def test_a_spacing_off_by_a_tenth_of_a_percent_changes_no_mask_by_more_than_one(mm: float) -> None:
    rng = np.random.default_rng(3)
    score = ndimage.gaussian_filter(rng.random((32, 80, 80)), (1.0, 1.5, 1.5)).astype(np.float32)
    cut, brain = np.quantile(score, 0.95), np.ones(score.shape, bool)
    cleaner = median.Cleaner(median.Options(size=6, unit="mm"))
    marked = [int((cleaner.clean(score, IMAGELESS, brain, (mm * k, 1.625, 1.625)) > cut).sum()) for k in (1, 1.001)]
    assert abs(marked[1] - marked[0]) <= max(0.01 * marked[0], 2)


def test_the_median_takes_away_what_is_alone_and_keeps_what_is_large() -> None:
    score = np.zeros((12, 20, 20), np.float32)
    score[3, 5, 5] = 9  # a speck
    score[:, 12, 3] = 9  # a line across all slices
    score[4:10, 8:16, 10:18] = 2  # a lesion
    brain = np.ones(score.shape, bool)
    cleaned = median.Cleaner(median.Options(size=3)).clean(score, IMAGELESS, brain, (1, 1, 1))
    assert cleaned[3, 5, 5] == 0
    assert not cleaned[:, 12, 3].any()
    assert (cleaned[5:9, 9:15, 11:17] == 2).all()


def test_thick_slices_are_not_smeared_in_millimetres() -> None:
    """A lesion in one slice of 8 mm survives the 5 mm window, and does not survive 5 voxels."""
    score = np.zeros((9, 24, 24), np.float32)
    score[4, 6:18, 6:18] = 1
    brain, spacing = np.ones(score.shape, bool), (8.0, 0.47, 0.47)
    in_mm = median.Cleaner(median.Options(size=5, unit="mm")).clean(score, IMAGELESS, brain, spacing)
    in_voxels = median.Cleaner(median.Options(size=5)).clean(score, IMAGELESS, brain, spacing)
    assert in_mm[4, 12, 12] == 1
    assert not in_mm[[3, 5]].any()
    assert not in_voxels.any()


@pytest.mark.parametrize("iterations", [0, 1, 3, 12])
def test_erosion_is_scipys_in_every_slice(iterations: int) -> None:
    rng = np.random.default_rng(iterations)
    brain = ndimage.gaussian_filter(rng.standard_normal((6, 48, 40)), (0, 4, 4)) > -0.05
    brain[0] = True  # a brain at the border: what is outside the image is no brain
    brain[1] = False
    score = rng.random(brain.shape, dtype=np.float32)
    cross = ndimage.generate_binary_structure(2, 1)
    kept = np.stack([ndimage.binary_erosion(s, cross, iterations=iterations) if iterations else s for s in brain])
    cleaned = erode.Cleaner(erode.Options(iterations)).clean(score, IMAGELESS, brain, (5.0, 1.0, 1.0))
    np.testing.assert_array_equal(cleaned, score * kept)
    assert cleaned.dtype == np.float32
    if iterations == 3:
        assert kept.any()
        assert (brain & ~kept).any()


@pytest.mark.parametrize("power", [0.0, 1.0, 2.5])
def test_the_prior_weighs_by_the_rank_of_the_intensity_in_the_brain(power: float) -> None:
    rng = np.random.default_rng(0)
    image = rng.gamma(4, 0.1, (5, 20, 20)).astype(np.float32)
    image[2, :4] = 0.25  # ties
    brain = rng.random(image.shape) > 0.3
    image[~brain] = 9  # what is outside is not ranked
    score = rng.random(image.shape, dtype=np.float32)
    rank = rankdata(image[brain], method="max") / brain.sum()
    weighted = prior.Cleaner(prior.Options(power)).clean(score, image, brain, (5.0, 1.0, 1.0))
    assert weighted.dtype == np.float32
    assert not weighted[~brain].any()
    # Intensities are counted in steps of 1/65535 of the brightest: neighbours in rank may be taken for equal.
    np.testing.assert_allclose(weighted[brain], score[brain] * rank**power, atol=2.5 * 2 / brain.sum())


def test_smoothing_lifts_a_lesion_over_noise_and_lowers_the_rim() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(0.6, 0.1, (9, 32, 32)).astype(np.float32).clip(0.1)
    brain = np.ones(image.shape, bool)
    image[4, 10:14, 10:14], image[4, 20, 20], image[4, 0, 16] = (
        0.9,
        0.9,
        0.9,
    )  # a lesion, a bright voxel, one at the rim
    score = np.ones(image.shape, np.float32)
    plain, smooth = (
        prior.Cleaner(prior.Options(8, mm)).clean(score, image, brain, (5.0, 1.0, 1.0))[4] for mm in (0, 2)
    )
    assert plain[12, 12] == pytest.approx(plain[20, 20]) == pytest.approx(plain[0, 16])
    assert smooth[12, 12] > 1.5 * smooth[20, 20] > 1.5 * smooth[0, 16]


def test_brightness_weighs_less_within_a_large_finding() -> None:
    rng = np.random.default_rng(0)
    image = rng.uniform(0.5, 1, (9, 64, 64)).astype(np.float32)
    brain = np.ones(image.shape, bool)
    brain[:, :, 60:] = False
    score = np.zeros(image.shape, np.float32)
    score[:, 8:48, 8:48], score[4, 56:58, 54:56] = 0.9, 0.9
    plain, large = (
        prior.Cleaner(prior.Options(8, 2, mm)).clean(score, image, brain, (2.0, 1.0, 1.0))[4] for mm in (0, 5)
    )
    assert (large >= plain).all()
    assert large[28, 28] > 0.8  # m is 0.9, the power a hundredth of itself
    small = np.s_[56:58, 54:56]
    assert (large[small] < 1.5 * plain[small]).all()
    assert np.median(large[20:36, 20:36] / plain[20:36, 20:36]) > 3
    assert not large[:, 60:].any()


def test_scores_fall_towards_the_rim_but_not_within_a_large_finding() -> None:
    z, y, x = np.mgrid[-20:21, -32:33, -32:33]
    brain = np.hypot(np.hypot(z, y), x) < 20
    image = np.ones(brain.shape, np.float32)
    small = np.zeros(brain.shape, np.float32)
    small[20, 31:34, 31:34] = small[20, 31:34, 13:16] = small[20, 31:34, 44:47] = 0.9  # in the middle, 2 and 5 mm deep
    large = np.where(brain & (x < -4), 0.9, 0).astype(np.float32)
    cleaner = prior.Cleaner(prior.Options(0, 0, 4, 3))
    found, reached = (cleaner.clean(score, image, brain, (1.0, 1.0, 1.0)) for score in (small, large))
    middle, rim, between = (found[20, 32, column] for column in (32, 14, 45))
    assert middle == pytest.approx(0.9, rel=0.02)
    assert 0.05 < rim < 0.4
    assert rim < between < middle
    assert not found[~brain].any()
    assert reached[20, 32, 18] > 0.7  # as deep as the middle of the tumour
    assert np.median(reached[large > 0]) > 0.8
    weak, slab = prior.Cleaner(prior.Options(0, 0, 0, 3)), np.s_[15:26]
    assert weak.clean(image, image, brain, (1.0, 1.0, 1.0))[brain].min() == pytest.approx(0.1)
    assert weak.clean(image[slab], image[slab], brain[slab], (1.0, 1.0, 1.0))[0, 32, 32] > 0.95  # an end is no rim


def test_the_hole_of_a_large_finding_is_filled_and_a_small_one_is_left_alone() -> None:
    score = np.zeros((9, 64, 64), np.float32)
    score[:, 8:40, 8:40], score[:, 22:26, 22:26], score[4, 56, 56] = 0.8, 0.0, 0.8
    brain = np.ones(score.shape, bool)
    brain[:, :, 60:] = False
    filled = fill.Cleaner(fill.Options(5.0)).clean(score, 0 * score, brain, (5.0, 1.0, 1.0))
    assert (filled >= score).all()
    assert filled[4, 24, 24] > 0.5
    assert filled[4, 56, 57] < 0.01
    assert not filled[:, :, 60:].any()


def test_a_voxel_shares_in_the_crest_of_its_component() -> None:
    score = np.zeros((3, 6, 16), np.float32)
    score[1, 1:5, 1:5], score[1, 2, 2] = 0.2, 0.8  # strong, with a flank
    score[1, 1:5, 10:14], score[0, 0, 15] = 0.3, 0.04  # weak; below the low threshold
    raised = crest.Cleaner(crest.Options(0.05, 0.75)).clean(score, score, score >= 0, (1, 1, 1))
    assert raised[1, 2, 2] == pytest.approx(0.8)
    assert raised[1, 4, 4] == pytest.approx(0.2**0.25 * 0.8**0.75)
    np.testing.assert_allclose(raised[1, 1:5, 10:14], 0.3, rtol=1e-6)
    assert raised[0, 0, 15] == np.float32(0.04)
    assert (raised > 0.5).sum() == 16  # all of the strong one, none of the weak
    score[1, 0, 0] = score[2, 1, 1] = 0.01  # beside the strong one; above it
    raised = crest.Cleaner(crest.Options(0.05, 0.75)).clean(score, score, score >= 0, (1, 1, 1))
    assert raised[1, 0, 0] == pytest.approx(0.01**0.25 * 0.8**0.75)
    assert raised[2, 1, 1] == np.float32(0.01)
    outside = np.arange(16) > 0 * score
    assert crest.Cleaner(crest.Options(0.05, 0.75)).clean(score, score, outside, (1, 1, 1))[1, 0, 0] == np.float32(0.01)
    unchanged = crest.Cleaner(crest.Options(0.05, 0)).clean(score, score, score >= 0, (1, 1, 1))
    np.testing.assert_allclose(unchanged, score, rtol=1e-6)
    assert not crest.Cleaner(crest.Options()).clean(0 * score, score, score >= 0, (1, 1, 1)).any()


def test_scores_far_below_a_component_are_left_out_unless_they_touch_one() -> None:
    score = np.full((1, 3, 9), 9e-8, np.float32)
    score[0, 1, 1], score[0, 1, 8] = 0.5, 2e-7
    raised = crest.Cleaner(crest.Options(0.1, 0.5)).clean(score, score, score >= 0, (1, 1, 1))
    np.testing.assert_allclose(raised[0, 0, :3], (9e-8 * 0.5) ** 0.5)
    assert raised[0, 1, 8] == np.float32(2e-7)
    assert np.count_nonzero(raised) == 10


@settings(max_examples=20, deadline=None)
@given(st.floats(0.4, 8.0))
def test_fill_and_prior_are_continuous_in_the_spacing(mm: float) -> None:
    rng = np.random.default_rng(3)
    score = ndimage.gaussian_filter(rng.random((24, 40, 40)), (1.0, 1.5, 1.5)).astype(np.float32)
    image, brain = rng.random(score.shape, dtype=np.float32), np.ones(score.shape, bool)
    for cleaner in (
        fill.Cleaner(fill.Options()),
        prior.Cleaner(prior.Options(8, 2)),
        prior.Cleaner(prior.Options(8, 2, 8, 8)),
    ):
        one, other = (cleaner.clean(score, image, brain, (z, 1.0, 1.0)) for z in (mm, mm * 1.001))
        cut = np.quantile(one, 0.95)
        assert np.count_nonzero((one > cut) ^ (other > cut)) <= 0.01 * np.count_nonzero(one > cut)


def test_the_prior_of_nothing() -> None:
    score = np.ones((2, 4, 4), np.float32)
    nowhere = np.zeros(score.shape, bool)
    for options in (prior.Options(), prior.Options(8, 2, 8, 8)):
        assert not prior.Cleaner(options).clean(score, score, nowhere, (1, 1, 1)).any()
    dark = prior.Cleaner(prior.Options()).clean(score, 0 * score, ~nowhere, (1, 1, 1))
    np.testing.assert_array_equal(dark, score)  # all are equally bright


def test_options_are_checked() -> None:
    for options, values, words in (
        (median.Options, {"size": 0.5}, "must be at least 1"),
        (median.Options, {"unit": "cm"}, "not a choice"),
        (erode.Options, {"iterations": 2.5}, "not a whole number"),
        (prior.Options, {"power": "inf"}, "must be finite"),
        (erode.Options, {"iterations": -1}, "must be at least 0"),
    ):
        with pytest.raises(UsageError, match=words):
            build(options, values, "cleaner")


def bilaterally(score: np.ndarray, brain: np.ndarray, spacing_mm: Spacing, **options: float) -> np.ndarray:
    cleaner = bilateral.Cleaner(bilateral.Options(**options))
    return cleaner.clean(score.astype(np.float32), IMAGELESS, brain, spacing_mm)


def test_bilateral_is_the_weighted_mean_of_the_neighbours() -> None:
    """Against a loop over all pairs of voxels."""
    rng, spacing = np.random.default_rng(0), (3.0, 1.5, 1.2)
    score, brain = rng.random((4, 5, 6)), rng.random((4, 5, 6)) > 0.2
    places = np.argwhere(brain)
    apart_mm = np.linalg.norm((places[:, None] - places[None]) * spacing, axis=2)
    lowest = np.exp(-(2.5**2) / 2)
    near = np.maximum(np.exp(-(apart_mm**2) / (2 * 1.7**2)) - lowest, 0)
    values = score[brain]
    weight = near * np.exp(-((values[:, None] - values[None]) ** 2) / (2 * 0.3**2))
    found = bilaterally(score, brain, spacing, sigma=1.7, contrast=0.3)
    np.testing.assert_allclose(found[brain], weight @ values / weight.sum(axis=1), rtol=1e-5)
    assert not found[~brain].any()


def test_bilateral_smooths_noise_and_keeps_an_edge() -> None:
    rng = np.random.default_rng(0)
    step = np.where(np.arange(16) < 8, 0.1, 0.7)[None, None] * np.ones((8, 12, 16))
    found = bilaterally(step + 0.03 * rng.standard_normal(step.shape), step > 0, (2.0, 1.6, 1.6))
    assert np.abs(found - step).std() < 0.015
    assert np.abs(found - step)[..., 7:9].max() < 0.06  # a Gaussian of that width would move the edge by 0.2


@settings(max_examples=25, deadline=None)
@given(spacing_mm=st.tuples(*[st.floats(0.8, 6)] * 3), axis=st.integers(0, 2))
def test_bilateral_is_continuous_in_the_spacing(spacing_mm: Spacing, axis: int) -> None:
    """Also where a neighbour comes into reach: at reach / 1, reach / 2, ..."""
    score = np.random.default_rng(0).random((5, 6, 7))
    brain = np.ones(score.shape, bool)
    met = bilateral.REACH * 2.0 / max(1, round(bilateral.REACH * 2.0 / spacing_mm[axis]))
    below, above = (
        bilaterally(score, brain, tuple(met * by if k == axis else mm for k, mm in enumerate(spacing_mm)))  # type: ignore[arg-type]
        for by in (1 - 1e-4, 1 + 1e-4)
    )
    assert np.abs(below - above).max() < 2e-3


def test_erosion_says_what_it_excludes() -> None:
    brain = np.zeros((3, 9, 9), bool)
    brain[:, 1:8, 1:8] = True
    kept = erode.Cleaner(erode.Options(2)).kept(brain)
    assert kept.sum() == 3 * 9
    np.testing.assert_array_equal(
        kept_by([median.Cleaner(median.Options()), erode.Cleaner(erode.Options(2))], brain), kept
    )
    np.testing.assert_array_equal(kept_by([median.Cleaner(median.Options())], brain), brain)
