"""Implants on a scan's own grid: volume, partial voxels, contrast; and where they are put."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from tests.scans import SMALL_AFFINE, ball, turned
from uadtk.core.volume import Mask, Scan, Volume
from uadtk.study.implant_places import APART_MM, AWAY_MM, BASE_MM, DEEP_MM, RIM_MM, Ground, every, plan, survey
from uadtk.study.implanted_scan import Implant, Wanted, draw_outline, implanted, inside_points, on_grid

GRIDS = [(1.0, 1.0, 1.0), (1.2, 1.0, 1.0), (0.94, 0.94, 5.0), (0.47, 0.47, 8.0), (1.0, 3.0, 1.0)]


def grid(spacing: tuple[float, float, float], edge_mm: float = 60.0) -> Volume:
    """Tilted by 17 degrees, about the origin."""
    c, s = np.cos(0.3), np.sin(0.3)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) * spacing
    shape = [round(edge_mm / mm) for mm in spacing]
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Volume(np.zeros(shape, np.uint8), affine)


def sphere_ml(size_mm: float) -> float:
    return float(np.pi / 6 * size_mm**3 / 1000)


@pytest.mark.parametrize("spacing", GRIDS, ids=str)
@pytest.mark.parametrize("size_mm", [3.0, 5.0, 8.0, 12.0, 20.0, 30.0])
def test_the_planted_volume_is_that_of_the_ball(spacing: tuple[float, float, float], size_mm: float) -> None:
    rng, where = np.random.default_rng(1), grid(spacing)
    for centre in rng.uniform(-3, 3, (3, 3)):
        _, share = on_grid(draw_outline(rng, size_mm), centre, where)
        assert 0 <= share.min() <= share.max() <= 1
        assert share.sum(dtype=float) * where.voxel_ml == pytest.approx(sphere_ml(size_mm), rel=0.05)


def test_thick_slices_hold_what_thin_ones_hold_on_average() -> None:
    outline = draw_outline(np.random.default_rng(2), 12.0)
    thin, thick = Volume(np.zeros((40, 40, 40), np.uint8), np.eye(4)), np.diag([1.0, 1.0, 5.0, 1.0])
    thick[2, 3] = 2.0  # a thick slice covers five thin ones
    parts = []
    for volume in (thin, Volume(np.zeros((40, 40, 8), np.uint8), thick)):
        box, share = on_grid(outline, np.array([19.5, 20.2, 18.9]), volume)
        whole = np.zeros(volume.shape, np.float32)
        whole[box] = share
        parts.append(whole)
    np.testing.assert_allclose(parts[0].reshape(40, 40, 8, 5).mean(axis=3), parts[1], atol=0.06)
    assert np.count_nonzero((parts[1] > 0.05) & (parts[1] < 0.95)) > 50


def test_outlines_differ_are_irregular_and_end_within_their_reach() -> None:
    rng = np.random.default_rng(3)
    outlines = [draw_outline(rng, 20.0) for _ in range(8)]
    for outline in outlines:
        directions = rng.standard_normal((2000, 3))
        directions /= np.linalg.norm(directions, axis=1)[:, None]
        assert not outline.coverage(directions * outline.reach_mm).any()
        assert outline.coverage(np.zeros((1, 3))) == 1
        steps = np.linspace(0, outline.reach_mm, 60)
        radii = np.array([(outline.coverage(directions * step) > 0.5) for step in steps]).sum(axis=0)
        assert radii.std() / radii.mean() > 0.08
    assert len({outline.half_mm.tobytes() for outline in outlines}) == 8


def test_points_lie_inside() -> None:
    outline = draw_outline(np.random.default_rng(4), 8.0)
    points = inside_points(outline)
    assert len(points) > 100
    assert (outline.coverage(points) >= 0.5).all()


@pytest.mark.parametrize("contrast", [0.5, -0.3])
@pytest.mark.parametrize("dark", [0.0, -1000.0])
def test_the_contrast_is_relative_to_the_tissue_around(contrast: float, dark: float) -> None:
    voxels = np.full((50, 50, 50), 400.0 + dark, np.float32)
    voxels[:, :, 30:] = 100 + dark  # fluid does not count
    scan, brain = Scan(voxels, np.eye(4)), Mask(np.ones((50, 50, 50), bool), np.eye(4))
    implant = Implant(Wanted(10.0, contrast, "deep"), draw_outline(np.random.default_rng(0), 10.0), np.full(3, 23.0))
    made, [(box, share)] = implanted(scan, brain, voxels > 300 + dark, dark, [implant])
    change = made.voxels - voxels
    assert change[23, 23, 23] == pytest.approx(400 * contrast)
    np.testing.assert_allclose(change[box], share * 400 * contrast, atol=1e-3)
    assert np.count_nonzero(change) == np.count_nonzero(share)
    assert scan.voxels is voxels
    assert voxels[23, 23, 23] == 400 + dark


# Places ------------------------------------------------------------------------------------------------------------


def ground(codes: str = "LAS", blocked: bool = False) -> Ground:
    shape = (44, 52, 24)
    brain = ball(shape, 0.95)
    image = np.where(brain, 500, 0).astype(np.float32)
    image[ball(shape, 0.2)] = 100  # ventricles
    scan = turned(Volume(image, SMALL_AFFINE), codes)
    normal = np.ones(shape, dtype=bool)
    marked = np.zeros(shape, dtype=bool)
    if blocked:
        normal[:22], marked[22:, 26:] = False, True
    parts = [turned(Volume(part, SMALL_AFFINE), codes).voxels for part in (brain, normal, marked & brain)]
    return survey(
        Scan(scan.voxels, scan.affine), Mask(parts[0], scan.affine), parts[1], parts[2], 0.0, np.random.default_rng(5)
    )


@pytest.mark.parametrize("codes", ["LAS", "SPR"])
def test_a_plan_holds_each_implant_once_apart_and_in_its_place(codes: str) -> None:
    here, wanted = ground(codes), every((5.0, 12.0, 20.0), (0.3, 1.0), 2)
    passes, left_out = plan(here, wanted, np.random.default_rng(0))
    assert not left_out
    assert Counter(one.wanted for own in passes for one in own) == Counter(wanted)
    assert 2 < len(passes) < len(wanted) / 2
    lowest = here.spots_mm[:, 2].min()
    for own in passes:
        assert sum(sphere_ml(one.wanted.size_mm) for one in own) <= 0.015 * here.brain_ml
        for one, other in combinations(own, 2):
            between = np.linalg.norm(one.centre_mm - other.centre_mm)
            assert between - (one.wanted.size_mm + other.wanted.size_mm) / 2 >= APART_MM
        for one in own:
            spot = int(np.abs(here.spots_mm - one.centre_mm).sum(axis=1).argmin())
            below = here.depth_mm[spot] - one.wanted.size_mm / 2
            assert (one.wanted.place == "base") == (here.height_mm[spot] < BASE_MM)
            assert one.wanted.place != "rim" or below <= RIM_MM
            assert one.wanted.place != "deep" or below >= DEEP_MM
            assert one.centre_mm[2] >= lowest
            box, share = on_grid(one.outline, one.centre_mm, here.scan)
            assert share[here.free[box]].sum() * here.scan.voxel_ml == pytest.approx(
                sphere_ml(one.wanted.size_mm), rel=0.05
            )


def test_what_is_not_known_to_be_normal_or_is_marked_stays_free_of_implants() -> None:
    here = ground(blocked=True)
    passes, _ = plan(here, every((5.0, 8.0), (0.5,), 3), np.random.default_rng(0))
    closed = np.ones((44, 52, 24), dtype=bool)
    closed[22:, :26] = False
    spots = np.argwhere(turned(Volume(closed & ball((44, 52, 24), 0.95), SMALL_AFFINE), "LAS").voxels)
    at = spots @ here.scan.affine[:3, :3].T + here.scan.affine[:3, 3]
    implants = [one for own in passes for one in own]
    assert len(implants) > 6
    for one in implants:
        nearest = np.sqrt(((at - one.centre_mm) ** 2).sum(axis=1)).min()
        assert nearest >= one.wanted.size_mm / 2 + AWAY_MM - 1e-6


def test_implants_without_room_are_counted() -> None:
    passes, left_out = plan(ground(), every((8.0, 120.0), (0.5,), 1), np.random.default_rng(0))
    assert {one.size_mm for one in left_out} == {120.0}
    assert sum(map(len, passes)) == 3
