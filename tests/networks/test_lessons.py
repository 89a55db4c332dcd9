"""Lessons: what is shown, what it would be without implants, and which pixels count."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from uadtk.networks.corruption import corrupt
from uadtk.networks.implants import Recipe
from uadtk.networks.lessons import JUDGED, LEARNED, Lesson, lesson, with_implants
from uadtk.networks.noise import coarse_noise
from uadtk.networks.seeded import seeded
from uadtk.testing.specimens import healthy_slices, planted

BATCH = healthy_slices(24, 64)
PIXEL_MM = 3.25


def taught(recipe: Recipe = LEARNED, seed: int = 0, pixel_mm: float = PIXEL_MM, **changed: torch.Tensor) -> Lesson:
    with seeded(seed):
        return lesson(replace(BATCH, **changed), pixel_mm, recipe)


def test_the_global_seed_decides_and_a_generator_if_there_is_one() -> None:
    assert torch.equal(taught(seed=1).image, taught(seed=1).image)
    assert not torch.equal(taught(seed=1).image, taught(seed=2).image)
    one, two = (lesson(BATCH, PIXEL_MM, LEARNED, generator=torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(one.image, two.image)


@pytest.mark.parametrize("recipe", [LEARNED, JUDGED])
def test_slices_that_are_mostly_black_give_numbers(recipe: Recipe) -> None:
    """The ends of a scan: little brain, most of it 0, and so a median of 0 that contrasts cannot be shares of."""
    lit = [0.0, 1e-6, 0.02, 0.3, 0.6]  # the share of the brain that is not black
    kept = torch.rand(BATCH.image.shape, generator=torch.Generator().manual_seed(0)) < torch.tensor(
        [*lit * 4, 0.4, 0.45, 0.5, 0.55]
    ).view(-1, 1, 1, 1)
    brain = BATCH.brain.clone()
    brain[:5] = False
    brain[5:10, :, :, 30:] = False
    for seed in range(10):
        made = taught(recipe, seed, image=BATCH.image * kept * brain, brain=brain)
        facts = torch.stack([made.facts.size_mm, made.facts.contrast, made.facts.edge_mm])
        assert all(values.isfinite().all() for values in (made.image, made.clean, facts))


def test_no_kind_of_implant_is_both_learned_and_judged() -> None:
    assert not set(LEARNED.tasks) & set(JUDGED.tasks)
    assert all(sum(recipe.tasks.values()) == pytest.approx(1) for recipe in (LEARNED, JUDGED))


def test_without_implants_the_slice_is_clean_and_still_looks_different() -> None:
    made = taught(Recipe(empty=1.0))
    assert torch.equal(made.image, made.clean)
    assert not made.target.any()
    assert made.counts.any()
    assert (made.clean - BATCH.image).abs().max() > 0.3


def test_the_clean_slice_differs_where_something_was_implanted_alone() -> None:
    """Give or take the blur: both were acquired alike, noise and scale included."""
    recipe = Recipe(empty=0.0, visible=0.02, edge_mm=(0.6, 1.0))
    made = taught(recipe)
    difference = (made.image - made.clean).abs()
    near = torch.nn.functional.max_pool2d(made.target.float(), 9, stride=1, padding=4) > 0
    assert difference[made.target].mean() > 0.1
    assert difference[~near].mean() < 0.02 * difference[made.target].mean()
    empty = [k for k in range(len(BATCH.image)) if not made.target[k].any()]
    assert len(empty) < 4


def test_known_lesions_are_no_target_and_do_not_count() -> None:
    image, lesion = planted(BATCH)
    made = taught(image=image, normal=~lesion)
    assert not (made.target & ~made.counts).any()
    lost = (taught().counts & ~made.counts).flatten(1).sum(1) / lesion.flatten(1).sum(1)
    assert ((lost > 0.5) & (lost < 1.7)).float().mean() > 0.9  # larger and smaller as the slices are


def test_sizes_are_in_mm() -> None:
    """With pixels half as large, lesions cover four times as many."""
    recipe = Recipe(tasks={"add": 1.0}, empty=0.0, means=(0.0,), most=1, large=0.0, small_mm=(22.0, 22.0), visible=0.02)
    recipe = replace(recipe, periventricular=0.0)
    sizes = [taught(recipe, pixel_mm=mm).target.flatten(1).sum(1).float().median() for mm in (PIXEL_MM / 2, PIXEL_MM)]
    assert float(sizes[0] / sizes[1]) == pytest.approx(4, rel=0.35)


def test_coarse_noise_as_a_corruption_leaves_the_batch_alone() -> None:
    with seeded(0):
        seen, wanted = corrupt(BATCH, "noise", 0.3, learning=True)
    with seeded(0):
        torch.testing.assert_close(seen, BATCH.image + coarse_noise(BATCH.brain, 0.3))
    assert wanted is BATCH


def test_both_corruptions_are_noise_on_slices_with_implants() -> None:
    for learning, recipe in ((True, LEARNED), (False, JUDGED)):
        with seeded(0):
            seen, wanted = corrupt(BATCH, "both", 0.3, learning)
        with seeded(0):
            lesions = with_implants(BATCH, PIXEL_MM, recipe)
            torch.testing.assert_close(seen, lesions.image + coarse_noise(BATCH.brain, 0.3))
        assert wanted is BATCH
        assert lesions.target.any()


def test_implants_as_a_corruption_are_to_be_taken_away() -> None:
    for learning, recipe in ((True, LEARNED), (False, JUDGED)):
        with seeded(0):
            seen, wanted = corrupt(BATCH, "implants", 0.0, learning)
        with seeded(0):
            made = lesson(BATCH, PIXEL_MM, recipe)
        assert torch.equal(seen, made.image)
        assert torch.equal(wanted.image, made.clean)
        assert torch.equal(wanted.brain, made.brain)
        assert torch.equal(wanted.brain & wanted.normal, made.counts)
