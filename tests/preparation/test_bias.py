"""The robust bias correction: the field goes, lesions stay."""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.volume import Mask, Scan
from uadtk.phantom import Phantom, make
from uadtk.preparation import bias, prepare
from uadtk.preparation.bias import bias_field, flattened


@cache
def tumour() -> Phantom:
    return make(3, lesions="tumour", lesion_ml=60, contrast=1.6, slice_mm=3.0, bias=0.0)


def ramp(phantom: Phantom, strength: float) -> NDArray[np.float32]:
    """A field that rises to the front and falls to the left."""
    x, y, _ = (np.linspace(-1, 1, n) for n in phantom.scan.shape)
    log = strength * (np.clip(y, 0, None)[None, :, None] ** 2 - 0.4 * x[:, None, None])
    return np.broadcast_to(np.exp(log), phantom.scan.shape).astype(np.float32)


@pytest.mark.parametrize("strength", [0.3, 0.6])
def test_most_of_a_field_is_found(strength: float) -> None:
    phantom, field = tumour(), ramp(tumour(), strength)
    before = bias_field(phantom.scan, phantom.brain)
    after = bias_field(Scan(phantom.scan.voxels * field, phantom.scan.affine), phantom.brain)
    left = np.log(field * before / after)[phantom.brain.voxels]
    assert left.std() < 0.25 * np.log(field)[phantom.brain.voxels].std()


def test_a_large_bright_tumour_stays_bright() -> None:
    phantom = tumour()
    tissue = phantom.brain.voxels & ~phantom.lesion.voxels

    def contrast(scan: Scan) -> float:
        return float(scan.voxels[phantom.lesion.voxels].mean() / np.median(scan.voxels[tissue]))

    assert contrast(flattened(phantom.scan, phantom.brain)) == pytest.approx(contrast(phantom.scan), rel=0.06)


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_the_unit_of_intensity_does_not_matter(scale: float) -> None:
    phantom = tumour()
    scaled = Scan((phantom.scan.voxels * scale).astype(np.float32), phantom.scan.affine)
    np.testing.assert_allclose(
        bias_field(scaled, phantom.brain), bias_field(phantom.scan, phantom.brain), rtol=1e-3, atol=0
    )


def test_a_small_change_of_the_spacing_is_a_small_change_of_the_field() -> None:
    phantom = tumour()
    affine = phantom.scan.affine @ np.diag([1.001, 1, 1, 1])
    moved = bias_field(Scan(phantom.scan.voxels, affine), Mask(phantom.brain.voxels, affine))
    np.testing.assert_allclose(moved, bias_field(phantom.scan, phantom.brain), rtol=5e-3)


def test_a_brain_of_zeros_has_no_field() -> None:
    dark = Scan(np.zeros((8, 8, 8), np.float32), np.eye(4))
    assert (bias_field(dark, Mask(np.ones((8, 8, 8), bool), np.eye(4))) == 1).all()


def test_the_recipe_turns_it_on() -> None:
    phantom, field = tumour(), ramp(tumour(), 0.5)
    scan = Scan(phantom.scan.voxels * field, phantom.scan.affine)
    plain, flat, clean = (
        prepare(one, Preparation(flatten=on), Run(), phantom.brain)
        for one, on in ((scan, False), (scan, True), (phantom.scan, True))
    )
    both = flat.brain & clean.brain
    assert abs(flat.image - clean.image)[both].mean() < 0.3 * abs(plain.image - clean.image)[both].mean()


def test_recipes_from_before_the_option_keep_their_identity() -> None:
    assert "flatten" not in Preparation().identity()
    assert Preparation(flatten=True).identity()["flatten"] is True


def test_the_fit_in_blocks_is_that_of_one_sum_in_double_precision() -> None:
    rng = np.random.default_rng(0)
    places = rng.uniform(-1, 1, (10_000, 3))
    terms = np.stack([np.prod(places**term, axis=1) for term in bias._TERMS], axis=1)
    log = 0.2 * terms @ rng.standard_normal(len(bias._TERMS)) + rng.normal(5, 0.1, len(terms))
    surface = np.eye(len(bias._TERMS))[bias._TERMS.index((0, 0, 0))] * bias._mode(log)
    penalty = bias.RIDGE * log.size * np.diag([float(any(term)) for term in bias._TERMS])
    for dark, bright in zip(bias.DARK, bias.BRIGHT, strict=True):
        off = log - terms @ surface
        weighted = terms * (np.clip(1 - (off / np.where(off < 0, dark, bright)) ** 2, 0, None) ** 2)[:, None]
        surface = np.linalg.solve(weighted.T @ terms + penalty, weighted.T @ log)
    fitted, level = bias._fitted(places.T, log)
    np.testing.assert_allclose(terms @ fitted, terms @ surface, atol=3e-5)
    assert level == pytest.approx(float((terms @ surface).mean()), abs=3e-5)
