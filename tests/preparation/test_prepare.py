from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.scans import SMALL_AFFINE, ball, small_brain
from uadtk.core.errors import DataError
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.volume import Mask, Scan
from uadtk.io.cohort import read_cohort
from uadtk.io.read import read_mask, read_scan
from uadtk.preparation import prepare
from uadtk.preparation.brain import DEEPBET, GIVEN, STRIPPED, find_brain, is_stripped


def scan(**changes: float) -> Scan:
    return Scan(small_brain()[0], SMALL_AFFINE)


def test_intensity_is_divided_by_the_98th_percentile_of_the_brain() -> None:
    found = prepare(scan(), Preparation(), Run())
    inside = scan().voxels[found.own_brain.voxels]
    assert found.intensity == pytest.approx(float(np.percentile(inside, 98)))
    assert found.image[found.brain].max() == pytest.approx(inside.max() / found.intensity, rel=0.1)
    assert not found.image[~found.brain].any()


def test_units_of_the_scan_do_not_matter() -> None:
    one, other = (
        prepare(scan(), Preparation(), Run()),
        prepare(Scan(scan().voxels * 37, SMALL_AFFINE), Preparation(), Run()),
    )
    np.testing.assert_allclose(one.image, other.image, atol=1e-5)


@pytest.mark.parametrize("side", ["128", "256"])
def test_sides(side: str) -> None:
    found = prepare(scan(), Preparation(side=side), Run())  # type: ignore[arg-type]
    assert found.image.shape[1:] == (int(side), int(side))
    assert found.to_own_grid(found.image).shape == scan().shape


def test_a_lesion_mask_keeps_its_place() -> None:
    image, _, lesion = small_brain(lesion=True)
    found = prepare(Scan(image, SMALL_AFFINE), Preparation(), Run())
    touched, label = found.touched(lesion), found.to_slices(lesion)
    assert label.any()
    np.testing.assert_array_equal((found.to_own_grid(touched.astype(np.float32)) > 0.5) & lesion, lesion)
    np.testing.assert_array_equal(touched & label, label)
    assert touched.sum() > label.sum()


@pytest.mark.parametrize("side", ["128", "256"])
@pytest.mark.parametrize("voxel_mm", [(1, 1, 4), (0.9, 1.1, 5), (2.5, 2.5, 3), (3, 3, 5)])
def test_a_label_keeps_its_volume_and_comes_home(side: str, voxel_mm: tuple[float, float, float]) -> None:
    """Neither dilated nor eroded, whichever of voxel and pixel is larger."""
    shape = tuple(round(extent / mm) for extent, mm in zip((140, 160, 90), voxel_mm, strict=True))
    brain = ball(shape, 0.9)  # type: ignore[arg-type]
    lesion = ball(shape, 0.18, (0.15, -0.1, 0.05)) | ball(shape, 0.12, (-0.2, 0.1, 0))  # type: ignore[arg-type]
    affine = np.diag([*voxel_mm, 1.0])
    image = np.where(brain, np.random.default_rng(0).uniform(400, 700, shape), 0).astype(np.float32)
    found = prepare(Scan(image, affine), Preparation(side=side), Run(), Mask(brain, affine))  # type: ignore[arg-type]
    label = found.to_slices(lesion)
    assert label.sum() * np.prod(found.spacing_mm) == pytest.approx(lesion.sum() * np.prod(voxel_mm), rel=0.06)
    home = found.to_own_grid(label.astype(np.float32)) > 0.5
    assert 2 * (home & lesion).sum() / (home.sum() + lesion.sum()) > 0.92


def test_brain_mask_is_given_recognised_or_refused() -> None:
    image, brain, _ = small_brain()
    assert find_brain(Scan(image, SMALL_AFFINE), Mask(brain, SMALL_AFFINE))[1] == GIVEN
    mask, source = find_brain(Scan(image, SMALL_AFFINE))
    assert source == STRIPPED
    np.testing.assert_array_equal(mask.voxels, brain)
    with pytest.raises(DataError, match="no brain"):
        find_brain(Scan(image, SMALL_AFFINE), Mask(brain & ball(brain.shape, 0.05), SMALL_AFFINE))


def test_zeros_inside_a_stripped_brain_belong_to_it() -> None:
    image, brain, _ = small_brain()
    image[ball(brain.shape, 0.1)] = 0
    np.testing.assert_array_equal(find_brain(Scan(image, SMALL_AFFINE))[0].voxels, brain)


def test_no_contrast_and_too_large_are_refused() -> None:
    _, brain, _ = small_brain()
    with pytest.raises(DataError, match="no contrast"):
        prepare(Scan(brain.astype(np.float32), SMALL_AFFINE), Preparation(), Run())
    large = SMALL_AFFINE @ np.diag([3, 3, 1, 1])
    with pytest.raises(DataError, match="the model's field of view 208 mm"):
        prepare(Scan(small_brain()[0], large), Preparation(), Run(), Mask(brain, large))


def test_a_brain_larger_than_the_field_is_scaled_down_and_that_is_recorded() -> None:
    image, brain, _ = small_brain()
    said: list[str] = []
    for stretch in (1.5, 1.7, 2.0):
        affine = SMALL_AFFINE @ np.diag([1, stretch, 1, 1])
        extent_mm = np.flatnonzero(brain.any(axis=(0, 2))).size * 3 * stretch
        found = prepare(Scan(image, affine), Preparation(), Run(say=said.append), Mask(brain, affine))
        pixel_mm = max(208.0, extent_mm) / 128
        assert found.spacing_mm == pytest.approx((5.0, pixel_mm, pixel_mm))
        assert found.decisions["pixel_mm"] == pytest.approx(pixel_mm)
        assert found.brain.sum() * found.spacing_mm[1] ** 2 == pytest.approx(brain.sum() * 9 * stretch, rel=0.03)
        back = found.to_own_grid(found.brain.astype(np.float32)) > 0.5
        assert (back ^ brain).sum() < 0.03 * brain.sum()
    assert said == [line for line in said if "scaled down to fit" in line]
    assert len(said) == 1 + (np.flatnonzero(brain.any(axis=(0, 2))).size * 3 * 1.7 > 208)


def test_whole_heads_and_stripped_scans_are_told_apart(shared_data: Path) -> None:
    for row in read_cohort(shared_data / "cohort.tsv"):
        if row.split != "train":
            assert is_stripped(read_scan(row.image)) == (row.collection != "whole_head"), row.subject


@pytest.mark.slow
def test_deepbet_strips_a_real_head(shared_data: Path) -> None:
    pytest.importorskip("deepbet", reason="the preprocess extra is not installed")
    row = next(r for r in read_cohort(shared_data / "cohort.tsv") if r.subject == "TCGA_HT_7856" and r.brain_mask)
    head = read_scan(shared_data / "whole_head" / "TCGA_HT_7856_flair.nii.gz")
    mask, source = find_brain(head)
    expected = read_mask(row.brain_mask, like=head).voxels
    assert source == DEEPBET
    assert 2 * (mask.voxels & expected).sum() / (mask.voxels.sum() + expected.sum()) > 0.95
    for axis, at, more in ((0, 128, 20), (2, 16, 4)):  # single slices, thick enough for the least volume of a brain
        box = tuple(np.s_[at : at + 1] if one == axis else np.s_[:] for one in range(3))
        thick = head.affine @ np.diag([more if one == axis else 1.0 for one in range(4)])
        found, source = find_brain(Scan(head.voxels[box], thick))
        own = mask.voxels[box]
        assert source == DEEPBET
        assert 2 * (found.voxels & own).sum() / (found.voxels.sum() + own.sum()) > 0.9


def test_where_deepbet_finds_an_empty_box_there_is_no_brain(monkeypatch: pytest.MonkeyPatch) -> None:
    bet = pytest.importorskip("deepbet.bet", reason="the preprocess extra is not installed")
    head = Scan(np.arange(8000, dtype=np.float32).reshape(20, 20, 20) + 1, np.eye(4))
    monkeypatch.setattr(bet.BrainExtraction, "get_bbox_with_margin", lambda *_: (np.s_[0:9], np.s_[0:9], np.s_[3:3]))
    with pytest.raises(DataError, match="no brain found by deepbet"):
        find_brain(head)
