"""Implants: only where they may be, target where they can be seen, facts as they are, the same under the same seed."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from uadtk.networks.fields import percentile
from uadtk.networks.implant_outlines import Outline, outlines
from uadtk.networks.implant_tasks import TASKS, Tissue, _blended, _deformed
from uadtk.networks.implants import BRIGHT, Implanted, Recipe, implanted
from uadtk.testing.contract import generators_untouched
from uadtk.testing.specimens import healthy_slices, planted

PIXEL_MM = 1.625
SLICES = healthy_slices(32, 128)
IMAGE, BRAIN = SLICES.image, SLICES.brain
LESION = planted(SLICES)[1]
ALONE = {"empty": 0.0, "means": (0.0,), "most": 1, "large": 0.0}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(seed: int = 0, usable: torch.Tensor = BRAIN, **recipe: object) -> Implanted:
    return implanted(IMAGE, BRAIN, usable, PIXEL_MM, seeded(seed), Recipe(**recipe))  # type: ignore[arg-type]


def only(task: str, **recipe: object) -> Implanted:
    return made(tasks={task: 1.0}, **recipe)


def test_one_seed_gives_the_same_bytes_and_no_other_generator_is_drawn_from() -> None:
    kept = IMAGE.clone()
    every = dict.fromkeys(TASKS, 1.0)
    with generators_untouched():
        one, two, other = made(3, tasks=every), made(3, tasks=every), made(4, tasks=every)
    assert torch.equal(one.image, two.image)
    assert torch.equal(one.target, two.target)
    assert all(torch.equal(getattr(one.facts, f.name), getattr(two.facts, f.name)) for f in fields(one.facts))
    assert not torch.equal(one.image, other.image)
    assert torch.equal(IMAGE, kept)


@pytest.mark.parametrize("task", TASKS)
def test_nothing_changes_where_tissue_is_not_usable(task: str) -> None:
    result = only(task, usable=BRAIN & ~LESION)
    untouched = ~BRAIN | LESION
    assert torch.equal(result.image[untouched], IMAGE[untouched])
    assert not result.target[untouched].any()
    assert result.target.any()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**40), st.sampled_from([32, 64, 128]), st.floats(0.5, 3), st.integers(1, 3), st.booleans())
def test_whatever_the_slices_images_are_finite_and_targets_in_usable_tissue(
    seed: int, side: int, pixel_mm: float, n: int, library: bool
) -> None:
    slices = healthy_slices(n, side)
    usable = slices.brain.clone()
    usable[..., : side // 3] = False
    shapes = torch.rand(3, 9, 12, generator=seeded(seed)) if library else None
    recipe = Recipe(tasks=dict.fromkeys(TASKS, 1.0))
    result = implanted(slices.image, slices.brain, usable, pixel_mm, seeded(seed), recipe, shapes)
    assert result.image.shape == result.target.shape == slices.image.shape
    assert (result.image.dtype, result.target.dtype) == (torch.float32, torch.bool)
    assert result.image.isfinite().all()
    assert result.image.min() >= 0
    assert not (result.target & ~usable).any()
    assert torch.equal(result.image[~usable], slices.image[~usable])


def test_without_usable_tissue_nothing_is_implanted() -> None:
    for result in (made(usable=BRAIN & False), made(empty=1.0)):
        assert torch.equal(result.image, IMAGE)
        assert not result.target.any()
        assert all(len(getattr(result.facts, field.name)) == 0 for field in fields(result.facts))


@pytest.mark.parametrize(("task", "sign"), [("add", 1), ("replace", 1), ("shift", 1), ("dark", -1)])
def test_targets_are_where_the_change_can_be_seen(task: str, sign: int) -> None:
    """Small ones, which have no hollow core: the change around each target pixel is visible, and of one sign."""
    result = only(task, large=0.0, small_mm=(4.0, 14.0))
    change = sign * (result.image - IMAGE)
    assert change.min() > -1e-5
    visible = Recipe().visible * percentile(IMAGE, BRAIN, 50)
    around = F.avg_pool2d(change, 3, stride=1, padding=1)
    assert (around > 0.99 * visible)[result.target].all()
    assert change[result.target].mean() > 3 * change[~result.target & BRAIN].mean()


def test_a_hollow_core_is_target() -> None:
    """Of tumours some have a core like the tissue around; targets have no holes but fluid that was spared."""
    result = only("replace", **{**ALONE, "large": 1.0})
    unchanged = result.target & ((result.image - IMAGE).abs() < 0.02)
    assert unchanged.flatten(1).any(1).sum() >= 2


@pytest.mark.parametrize("task", TASKS)
def test_facts_are_those_of_the_implants(task: str) -> None:
    result, facts = only(task, **ALONE), only(task, **ALONE).facts
    assert len(facts.slice) > (5 if task in ("blend", "deform") else 20)
    assert len(facts.slice.unique()) == len(facts.slice)
    assert (facts.task == TASKS.index(task)).all()
    area = result.target.flatten(1).sum(1)[facts.slice]
    torch.testing.assert_close(facts.size_mm, 2 * PIXEL_MM * (area / math.pi).sqrt())
    change = ((result.image - IMAGE) * result.target).flatten(1).sum(1) / result.target.flatten(1).sum(1).clamp(min=1)
    median = percentile(IMAGE, BRAIN, 50).flatten()
    torch.testing.assert_close(facts.contrast, (change / median)[facts.slice])
    low, high = Recipe().edge_mm
    assert ((facts.edge_mm >= low) & (facts.edge_mm <= high)).all()
    assert BRAIN[facts.slice, 0, facts.row, facts.column].all()


def test_sizes_come_out_as_asked_for() -> None:
    for size_mm in (8.0, 16.0, 30.0):
        facts = only("add", **{**ALONE, "small_mm": (size_mm, size_mm), "periventricular": 0.0}).facts
        assert float(facts.size_mm.median()) == pytest.approx(size_mm, rel=0.2)


def test_large_ones_and_their_number_follow_the_recipe() -> None:
    few, many = made(means=(0.0,), empty=0.0), made(means=(20.0,), most=6, empty=0.0)
    assert len(few.facts.slice) <= 32
    assert many.facts.slice.bincount().max() <= 6
    assert len(many.facts.slice) > 3 * len(few.facts.slice)
    tumours = made(large=1.0, means=(0.0,), empty=0.0).facts.size_mm
    assert tumours.median() > 2 * made(large=0.0, means=(0.0,), empty=0.0).facts.size_mm.median()


def test_tasks_come_as_often_as_asked_for() -> None:
    facts = made(tasks=BRIGHT, means=(8.0,), empty=0.0).facts
    share = facts.task.bincount(minlength=len(TASKS)) / len(facts.task)
    assert share[:3].tolist() == pytest.approx([0.45, 0.45, 0.1], abs=0.12)
    assert not share[3:].any()


def test_some_are_near_the_ventricles_if_wanted() -> None:
    def beside(share: float) -> float:
        facts = only("add", **{**ALONE, "periventricular": share}).facts
        dark = (IMAGE < 0.35) & BRAIN
        near = F.max_pool2d(dark.float(), 17, stride=1, padding=8) > 0
        return float(near[facts.slice, 0, facts.row, facts.column].float().mean())

    assert beside(1.0) > 0.9
    assert beside(0.0) < 0.6


def disc(radius: float, side: int = 64) -> Outline:
    at = torch.arange(side) - side / 2
    depth = (1 - torch.hypot(at[:, None], at) / radius)[None, None]
    centre = torch.full((1, 2), side // 2)
    return Outline((depth * radius / 2 + 0.5).clamp(0, 1), depth, centre, torch.full((1, 1, 1, 1), radius))


def tissue(foreign: torch.Tensor) -> Tissue:
    one = torch.ones(1, 1, 1, 1)
    return Tissue(foreign, one, foreign, foreign, foreign)


def test_outlines_have_the_area_and_the_edge_asked_for() -> None:
    n, radius = 200, 12.0
    centre, one = torch.full((n, 2), 48), torch.ones(n, 1, 1, 1)
    sharp, soft = (outlines(centre, 2 * radius * one, edge * one, 96, seeded()) for edge in (1.0, 6.0))
    area = (sharp.alpha > 0.5).flatten(1).sum(1) / (math.pi * radius**2)
    assert area.median() == pytest.approx(1, abs=0.1)
    assert area.std() > 0.03  # irregular

    def edge_pixels(outline: Outline) -> float:
        return float(((outline.alpha > 0.02) & (outline.alpha < 0.98)).flatten(1).sum(1).float().mean())

    assert 4 < edge_pixels(soft) / edge_pixels(sharp) < 8


def test_half_the_outlines_are_from_the_library_as_large_as_asked_for() -> None:
    """A square whose border is clear is found again: its corners fill their box, those of ellipses do not."""
    n, one = 200, torch.ones(200, 1, 1, 1)
    shape = torch.ones(1, 16, 16)
    made = outlines(torch.full((n, 2), 48), 24 * one, 0.5 * one, 96, seeded(), shape)
    area = (made.alpha > 0.5).flatten(1).sum(1).float() / (math.pi * 12**2)
    assert area.median() == pytest.approx(1, abs=0.12)
    square = (made.alpha > 0.5).sum(dim=(1, 2, 3)).float()
    exact = (square / (24**2 * math.pi / 4) - 1).abs() < 0.04  # squares are alike, whatever their angle
    assert 0.35 < exact.float().mean() < 0.85


def test_a_patch_that_differs_by_a_constant_is_blended_away() -> None:
    wave = torch.sin(torch.arange(64) / 10.18)[:, None] * torch.cos(torch.arange(64) / 5.09)
    image = (0.5 + 0.2 * wave)[None, None]
    torch.testing.assert_close(_blended(image, disc(12), tissue(image + 0.4), image), image, atol=1e-5, rtol=0)


def test_a_blended_patch_brings_its_texture_and_has_no_seam() -> None:
    image = torch.full((1, 1, 64, 64), 0.6)
    stripes = 0.9 + 0.2 * torch.sin(torch.arange(64.0) * 1.5).expand(1, 1, 64, 64)
    made = _blended(image, disc(14), tissue(stripes), image)
    assert made[..., 28:36, 28:36].std() > 0.08
    assert abs(made[..., 22:42, 22:42].mean() - 0.6) < 0.05  # the patch is 0.3 brighter
    assert (made - image)[..., :8, :].abs().max() < 0.02


def test_deformation_draws_tissue_in_or_pushes_it_out() -> None:
    at = torch.hypot((torch.arange(64) - 32.0)[:, None], torch.arange(64) - 32.0)
    image = torch.where(at < 8, 1.0, 0.5)[None, None]
    pulled, pushed = (
        _deformed(image, disc(16), tissue(image), torch.full((1, 1, 1, 1), stretch)) for stretch in (0.5, -0.5)
    )
    inside = [int((x > 0.75).sum()) for x in (pulled, image, pushed)]
    assert inside[0] < 0.6 * inside[1] < 1.2 * inside[1] < inside[2]
    flat = torch.full((1, 1, 64, 64), 0.7)
    assert torch.allclose(_deformed(flat, disc(16), tissue(flat), torch.full((1, 1, 1, 1), 0.5)), flat, atol=1e-5)
