"""The model that learns implants: what it is shown, what counts, how it scores."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.constant import count
from uadtk.api import UsageError
from uadtk.models.implant import JUDGED, LEARNED, Model, Options
from uadtk.networks.implants import Recipe
from uadtk.networks.seeded import seeded
from uadtk.testing.specimens import healthy_slices, planted

BATCH = healthy_slices(6, 64)


def model(**options: float) -> Model:
    with seeded(1):
        return Model(Options(**{"width": 4, "depth": 3, **options}), 64).eval()  # type: ignore[arg-type]


def test_parameters() -> None:
    assert count(Model(Options(), 128)) == 450_897
    assert count(model()) < count(model(width=8))
    assert count(model()) < count(model(depth=4))
    with pytest.raises(UsageError, match="cannot be halved"):
        Model(Options(), 100)


def test_the_loss_is_decided_by_the_seed_and_training_has_other_implants() -> None:
    taught = model()

    def loss(seed: int) -> float:
        with seeded(seed), torch.no_grad():
            return float(taught.training_loss(BATCH)["loss"])

    assert loss(3) == loss(3) != loss(4)
    held = loss(3)
    taught.train()
    assert loss(3) != held


def test_no_kind_of_implant_is_both_learned_and_judged() -> None:
    assert not set(LEARNED.tasks) & set(JUDGED.tasks)
    assert all(sum(recipe.tasks.values()) == pytest.approx(1) for recipe in (LEARNED, JUDGED))


def test_what_is_randomised_without_an_implant_has_no_target() -> None:
    with seeded(0):
        image, target, counts = model().lesson(BATCH, Recipe(empty=1.0))
    assert not target.any()
    assert counts.any()
    assert (image - BATCH.image).abs().max() > 0.1


def test_known_lesions_do_not_count_and_are_no_target() -> None:
    image, lesion = planted(BATCH)
    marked = replace(BATCH, image=image, normal=~lesion)
    with seeded(0):
        shown, target, counts = model().lesson(marked, LEARNED)
    with seeded(0):
        _, _, everywhere = model().lesson(BATCH, LEARNED)
    assert not (target & ~counts).any()
    lost = (everywhere & ~counts).flatten(1).sum(1) / lesion.flatten(1).sum(1)
    assert ((lost > 0.6) & (lost < 1.6)).all()  # the lesions, larger and smaller as the slices are
    dim = replace(marked, image=BATCH.image)
    taught = model()
    taught.net.forward = lambda x: 0 * x  # type: ignore[method-assign]
    with seeded(0):
        loss = taught.training_loss(marked)["cross_entropy"]
    with seeded(0):
        torch.testing.assert_close(taught.training_loss(dim)["cross_entropy"], loss)
    assert shown.isfinite().all()


def test_sizes_are_in_mm_of_the_field_of_view() -> None:
    """In half the field of view pixels are half as large, and lesions cover four times as many."""
    slices = healthy_slices(48, 64)
    recipe = Recipe(tasks={"add": 1.0}, empty=0.0, means=(0.0,), most=1, large=0.0, small_mm=(14.0, 14.0), visible=0.02)

    def area(field_mm: float) -> float:
        with seeded(0):
            return float(model(field_mm=field_mm).lesson(slices, recipe)[1].flatten(1).sum(1).float().median())

    assert area(104) / area(208) == pytest.approx(4, rel=0.3)


def test_the_score_does_not_change_sides() -> None:
    image, _ = planted(BATCH)
    taught = model()
    with torch.no_grad():
        score, mirrored = taught.score(image, BATCH.brain), taught.score(image.flip(3), BATCH.brain.flip(3))
    torch.testing.assert_close(mirrored.flip(3), score)
    assert ((score > 0) == BATCH.brain).all()


def test_many_slices_are_scored_as_few() -> None:
    slices = healthy_slices(40, 64)
    taught = model()
    with torch.no_grad():
        score = taught.score(slices.image, slices.brain)
        torch.testing.assert_close(taught.score(slices.image[:3], slices.brain[:3]), score[:3])
