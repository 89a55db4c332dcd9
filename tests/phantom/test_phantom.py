from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from uadtk.core.errors import UsageError
from uadtk.phantom import Anatomy, Phantom, from_labels, make
from uadtk.phantom.fields import smooth_field

COARSE: dict[str, Any] = {"slice_mm": 4.0, "in_plane_mm": 2.0}


@lru_cache(maxsize=12)
def coarse(seed: int, anatomy: Anatomy | None = None, **settings: Any) -> Phantom:
    return make(seed, anatomy, **{**COARSE, **settings})


@pytest.fixture
def head(label_map: Path) -> Anatomy:
    return from_labels(label_map)


def shares(phantom: Phantom) -> np.ndarray:
    """Brain intensity over its 98th percentile."""
    inside = phantom.scan.voxels[phantom.brain.voxels]
    return inside / np.percentile(inside, 98)


def test_same_seed_same_voxels_other_seed_other_brain(head: Anatomy) -> None:
    once, again, other = (make(seed, head, lesions="ms", **COARSE) for seed in (3, 3, 4))
    np.testing.assert_array_equal(once.scan.voxels, again.scan.voxels)
    np.testing.assert_array_equal(once.brain.voxels, again.brain.voxels)
    assert once.facts == again.facts
    assert other.scan.shape != once.scan.shape or (other.brain.voxels != once.brain.voxels).mean() > 0.01


def test_a_healthy_phantom_is_a_stripped_scan() -> None:
    phantom = coarse(3)
    voxels, brain = phantom.scan.voxels, phantom.brain.voxels
    assert voxels.dtype == np.float32
    assert np.isfinite(voxels).all()
    assert not voxels[~brain].any()
    assert voxels[brain].min() >= 0
    assert not phantom.lesion.voxels.any()
    assert phantom.scan.same_grid(phantom.brain)
    assert phantom.scan.same_grid(phantom.lesion)
    assert phantom.scan.spacing_mm == (2.0, 2.0, 4.0)
    assert ndimage.label(brain)[1] == 1
    assert 1100 < brain.sum() * phantom.brain.voxel_ml < 1900
    edges = (brain[0], brain[-1], brain[:, 0], brain[:, -1], brain[:, :, 0], brain[:, :, -1])
    assert not any(edge.any() for edge in edges)
    json.dumps(phantom.facts)


def test_histogram_lies_where_real_flair_lies() -> None:
    """Ranges: kirby113, and lesion-free slices of 60 gliomas (10th to 90th percentile), a little widened."""
    found = np.median([np.percentile(shares(coarse(seed)), [5, 25, 50, 75, 95]) for seed in (1, 2, 3)], axis=0)
    assert np.all(found > [0.15, 0.55, 0.69, 0.75, 0.85])
    assert np.all(found < [0.47, 0.74, 0.83, 0.90, 0.98])


def test_ventricles_are_dark_and_cortex_is_brighter_than_white_matter(head: Anatomy) -> None:
    phantom = make(1, head, deformation=0, noise=0, bias=0)
    middle = np.array(phantom.scan.shape) // 2
    along = phantom.scan.voxels[:, middle[1], middle[2]]
    centre = np.flatnonzero(along).mean()
    distance = np.abs(np.arange(len(along)) - centre)
    ventricle, white, cortex = (along[(distance > a) & (distance < b)].mean() for a, b in ((-1, 6), (18, 28), (36, 39)))
    assert ventricle < 0.4 * white
    assert 1.0 < cortex / white < 1.4


@pytest.mark.parametrize(
    ("kind", "ml", "settings"),
    [
        ("ms", 0.2, {"slice_mm": 1.5, "in_plane_mm": 1.0}),
        ("ms", 3.0, {"slice_mm": 5.0, "in_plane_mm": 1.0}),
        ("ms", 25.0, {}),
        ("tumour", 10.0, {}),
        ("tumour", 80.0, {"mass_effect": 0.3}),
    ],
)
def test_lesions_have_the_volume_asked_for(kind: str, ml: float, settings: dict[str, float], head: Anatomy) -> None:
    phantom = coarse(5, head, lesions=kind, lesion_ml=ml, **settings)
    found = phantom.lesion.voxels.sum() * phantom.lesion.voxel_ml
    assert found == pytest.approx(ml, rel=0.1, abs=2.5 * phantom.lesion.voxel_ml)
    assert found == pytest.approx(phantom.facts["lesion_ml"], abs=1e-3)
    assert not (phantom.lesion.voxels & ~phantom.brain.voxels).any()
    pieces = ndimage.label(phantom.lesion.voxels)[1]
    assert pieces > 8 if (kind, ml) == ("ms", 25.0) else pieces >= 1


def test_a_seed_with_lesions_is_the_healthy_brain_with_lesions(head: Anatomy) -> None:
    """The mask is exact: apart from one voxel of partial volume and blur around it, nothing changes."""
    healthy, ill = coarse(7, head), coarse(7, head, lesions="ms", lesion_ml=10.0, contrast=1.8)
    np.testing.assert_array_equal(healthy.brain.voxels, ill.brain.voxels)
    change = ill.scan.voxels - healthy.scan.voxels
    around = ndimage.binary_dilation(ill.lesion.voxels, np.ones((3, 3, 3)), iterations=2)
    assert np.abs(change[~around]).max() < 0.25 * np.abs(change).max()
    assert (change[ill.lesion.voxels] > 0).mean() > 0.95
    assert np.abs(change[~around]).mean() < 1e-3 * change[ill.lesion.voxels].mean()


@pytest.mark.parametrize("kind", ["ms", "tumour"])
def test_contrast_is_the_ratio_to_white_matter(kind: str, head: Anatomy) -> None:
    def brightness(contrast: float) -> float:
        made = coarse(9, head, lesions=kind, lesion_ml=30.0, contrast=contrast, noise=0.0, bias=0.0)
        return float(made.scan.voxels[made.lesion.voxels].mean())

    low, high = brightness(1.3), brightness(1.9)
    assert high / low == pytest.approx(1.9 / 1.3, rel=0.07)


def test_ms_lesions_stay_in_white_matter(head: Anatomy) -> None:
    phantom = make(2, head, lesions="ms", lesion_ml=6.0, deformation=0)
    centre = np.array([np.flatnonzero(phantom.brain.voxels.any(axis=o)).mean() for o in ((1, 2), (0, 2), (0, 1))])
    radius = np.linalg.norm(np.argwhere(phantom.lesion.voxels) - centre, axis=1)
    assert (radius > 37.5).mean() < 0.02  # the cortex is 36 to 40 mm out
    assert (radius < 12).mean() < 0.02  # deep grey matter and ventricle within 14 mm


def test_mass_effect_moves_tissue_off_the_tumour(head: Anatomy) -> None:
    still = coarse(9, head, lesions="tumour", lesion_ml=40.0, noise=0.0)
    pushed = coarse(9, head, lesions="tumour", lesion_ml=40.0, noise=0.0, mass_effect=0.4)
    both = still.lesion.voxels | pushed.lesion.voxels
    distance = ndimage.distance_transform_edt(~both, sampling=still.scan.spacing_mm)
    inside = still.brain.voxels & pushed.brain.voxels
    change = np.abs(still.scan.voxels - pushed.scan.voxels)
    near, far = (change[inside & (distance > a) & (distance < b)].mean() for a, b in ((4, 20), (60, 200)))
    assert near > 5 * far


def test_noise_and_bias_are_what_was_asked_for(head: Anatomy) -> None:
    clean = coarse(11, head, noise=0.0, bias=0.0)
    noisy, biased = coarse(11, head, noise=0.1, bias=0.0), coarse(11, head, noise=0.0, bias=0.2)
    bright = clean.scan.voxels > np.percentile(clean.scan.voxels[clean.brain.voxels], 40)
    white = np.median(clean.scan.voxels[bright])
    assert (noisy.scan.voxels - clean.scan.voxels)[bright].std() / white == pytest.approx(0.1, rel=0.15)
    factor = biased.scan.voxels[bright] / clean.scan.voxels[bright]
    assert 0.03 < factor.std() < 0.4
    assert (
        np.abs(np.diff(biased.scan.voxels / np.maximum(clean.scan.voxels, 1), axis=0)[bright[1:] & bright[:-1]]).max()
        < 0.08
    )


def test_a_flat_phantom_has_one_intensity_per_tissue(head: Anatomy) -> None:
    """Deep inside white matter nothing varies; the tissues keep the contrast that the seed drew."""
    flat, usual = (make(3, head, deformation=0, flat=flat) for flat in (True, False))
    white = ndimage.binary_erosion(flat.brain.voxels, iterations=14)
    spread = [made.scan.voxels[white].std() / made.scan.voxels[white].mean() for made in (flat, usual)]
    assert flat.facts["tissue_ratios"] == usual.facts["tissue_ratios"]
    assert flat.facts["flat"]
    assert (flat.facts["noise"], flat.facts["bias"]) == (0, 0)
    values, counts = np.unique(flat.scan.voxels[white].round(1), return_counts=True)
    assert counts.max() > 0.4 * white.sum()
    assert len(values) < 0.5 * len(np.unique(usual.scan.voxels[white].round(1)))
    assert spread[0] < spread[1]


def test_thick_slices_are_averages_and_the_affine_follows(head: Anatomy) -> None:
    thin, thick = coarse(13, head, slice_mm=1.0), coarse(13, head, slice_mm=5.0)
    assert thick.scan.spacing_mm == (2.0, 2.0, 5.0)
    for axis in range(3):
        middles = []
        for made in (thin, thick):
            index = np.argwhere(made.brain.voxels).mean(axis=0)
            middles.append((made.brain.affine @ [*index, 1])[axis])
        assert middles[0] == pytest.approx(middles[1], abs=6)
    assert shares(thick).std() < shares(thin).std()


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"slice_mm": 0.0}, "slice_mm=0.0"),
        ({"noise": -1.0}, "noise=-1.0"),
        ({"in_plane_mm": float("nan")}, "in_plane_mm=nan"),
        ({"lesions": "tumor"}, "Did you mean 'tumour'"),
        ({"lesion_ml": 5.0}, "no lesions to configure"),
        ({"lesions": "ms", "lesion_ml": 290.0, "deformation": 0.0}, "do not fit"),
    ],
)
def test_what_cannot_be_made_is_refused(settings: dict[str, Any], what: str, head: Anatomy) -> None:
    with pytest.raises(UsageError, match=what):
        coarse(0, head, **settings)


def test_smooth_field_has_unit_variance_and_is_smooth() -> None:
    field = smooth_field(np.random.default_rng(0), (80, 90, 70), (5.0, 7.0, 4.0))
    assert field.dtype == np.float32
    assert field.shape == (80, 90, 70)
    assert field.std() == pytest.approx(1, abs=0.06)
    assert np.diff(field, axis=1).std() < 0.35
    assert np.abs(np.diff(field, n=2, axis=1)).max() < 0.4
