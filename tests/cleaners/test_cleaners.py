"""Cleaners: what the median's window is in voxels, and what erosion leaves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import rankdata

from uadtk.cleaners import erode, median, prior
from uadtk.core.errors import UsageError
from uadtk.core.options import build

Spacing = tuple[float, float, float]
IMAGELESS = np.zeros((0, 0, 0), np.float32)  # for cleaners that do not look at the image


@pytest.mark.parametrize(
    ("size", "unit", "spacing_mm", "window"),
    [
        (5, "voxel", (1.0, 1.0, 1.0), (5, 5, 5)),  # the paper
        (5, "voxel", (8.0, 0.47, 0.47), (5, 5, 5)),  # voxels know nothing of millimetres
        (5, "mm", (1.0, 1.0, 1.0), (5, 5, 5)),  # the same at 1 mm
        (5, "mm", (5.0, 1.625, 1.625), (1, 3, 3)),  # 208 mm over 128 pixels, thick slices: 4.9 mm in the plane
        (5, "mm", (1.0, 1.625, 1.625), (5, 3, 3)),
        (5, "mm", (1.0, 0.8125, 0.8125), (5, 7, 7)),  # 256 pixels
        (5, "mm", (8.0, 0.47, 0.47), (1, 7, 7)),  # 11 voxels would be 5 mm; the filter goes to 7
        (3, "mm", (3.0, 1.0, 1.0), (1, 3, 3)),
        (1, "voxel", (1.0, 1.0, 1.0), (1, 1, 1)),
        (4, "voxel", (1.0, 1.0, 1.0), (5, 5, 5)),
        (50, "voxel", (1.0, 1.0, 1.0), (7, 7, 7)),
    ],
)
def test_the_medians_window(size: float, unit: str, spacing_mm: Spacing, window: tuple[int, int, int]) -> None:
    found = median.Cleaner(build(median.Options, {"size": size, "unit": unit}, "median")).window(spacing_mm)
    assert found == window
    assert all(n % 2 == 1 for n in found)


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


def test_the_prior_of_nothing() -> None:
    score = np.ones((2, 4, 4), np.float32)
    nowhere = np.zeros(score.shape, bool)
    assert not prior.Cleaner(prior.Options()).clean(score, score, nowhere, (1, 1, 1)).any()
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
