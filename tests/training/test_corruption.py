"""``--corruption implants``: every model that reconstructs learns to remove lesions, or says that it cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.commands import call
from uadtk import checkpoint as checkpoints
from uadtk import registry
from uadtk.core import options as opts
from uadtk.core.errors import UsageError
from uadtk.core.model import Batch, capabilities, traits
from uadtk.core.preparation import Preparation, preparation_of
from uadtk.core.run import Run
from uadtk.io.cohort import read_cohort
from uadtk.networks.corruption import corrupt
from uadtk.networks.seeded import seeded
from uadtk.testing.specimens import healthy_slices
from uadtk.training import train as training
from uadtk.training.optimisers import learns_to_remove, turns_of
from uadtk.training.train import Schedule, schedule_options, settings_of, train

QUICK = Schedule(epochs=1, batch=16, corruption="implants")
SLICES = healthy_slices(4, 32)


def built(name: str, side: int = 32, **options: Any) -> Any:
    cls = registry.load("models", name)
    with seeded(0):
        return cls(opts.build(cls.Options, {**traits(cls).quick, **options}, name), side)


def reconstructing() -> list[str]:
    classes = {name: registry.load("models", name) for name in registry.own("models")}
    return sorted(name for name, cls in classes.items() if {"training_loss", "reconstruct"} <= capabilities(cls))


@pytest.mark.parametrize("name", reconstructing())
def test_every_model_that_reconstructs_can_learn_to_remove_implants(name: str) -> None:
    own = {one.name for one in opts.fields(registry.load("models", name).Options)}
    if name == "anogan":  # no part of it sees a slice: there is nothing that could learn to leave a lesion out
        assert not learns_to_remove(built(name), 32)
    else:
        assert "corruption" in own or learns_to_remove(built(name), 32)


@pytest.mark.parametrize("name", ["fanogan", "anovaegan"])
def test_what_a_critic_takes_for_real_has_no_implants(name: str) -> None:
    gan = built(name)
    batch = replace(SLICES, image=SLICES.image + 1, clean=SLICES.image)
    real: list[torch.Tensor] = []
    gan.critic.register_forward_hook(lambda module, inputs, output: real.append(inputs[0]))
    (critic,) = [turn for turn in turns_of(gan, 1) if turn.player == "critic"]
    critic.loss(batch)
    torch.testing.assert_close(real[0], SLICES.image)


def test_the_target_is_the_slice_itself_unless_it_is_given() -> None:
    beside = Batch(SLICES.image.expand(-1, 3, -1, -1), SLICES.brain, SLICES.normal)
    assert torch.equal(beside.target, SLICES.image)
    assert torch.equal(replace(SLICES, image=SLICES.image + 1).target, SLICES.image + 1)
    given = replace(SLICES, clean=SLICES.image + 1)
    assert torch.equal(given.each(lambda t: t[:2]).target, SLICES.image[:2] + 1)
    assert SLICES.each(lambda t: t[:2]).clean is None


def test_a_batch_knows_the_size_of_its_pixels() -> None:
    assert SLICES.pixel_mm == Preparation().field_mm / 32
    larger = replace(SLICES, pixel_mm=8.0)
    assert larger.each(lambda t: t[:2]).pixel_mm == 8.0
    for kind in ("implants", "both"):
        with seeded(0):
            as_large, _ = corrupt(SLICES, kind, 0.0, learning=True)
        with seeded(0):
            seen, wanted = corrupt(larger, kind, 0.0, learning=True)
        assert not torch.equal(seen, as_large)
        assert wanted.pixel_mm == 8.0


@pytest.mark.slow
def test_training_slices_get_implants_and_held_out_ones_those_of_other_kinds(
    small_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, Batch]] = []
    real = training.with_lesions

    def watched(batch: Batch, learning: bool) -> Batch:
        assert batch.pixel_mm == 240 / 128
        seen.append((learning, real(batch, learning)))
        return seen[-1][1]

    monkeypatch.setattr(training, "with_lesions", watched)
    fresh = checkpoints.new("ae", {"latent": 4}, Preparation(field_mm=240))
    made = train(fresh, read_cohort(small_cohort), QUICK, tmp_path / "ae.safetensors", Run())
    kinds = [learning for learning, _ in seen]
    assert set(kinds) == {True, False}
    assert kinds == sorted(kinds, reverse=True)
    for _, batch in seen:
        changed = (batch.image - batch.target).abs() > 0.02
        assert 0 < changed.float().mean() < 0.2
    assert made.training["schedule"]["corruption"] == "implants"


@pytest.mark.parametrize(
    ("model", "options"), [("anogan", {}), ("unet", {}), ("ae", {"neighbours": 1}), ("implant", {})]
)
def test_who_cannot_learn_it_says_so_before_the_work(
    model: str, options: dict[str, Any], small_cohort: Path, tmp_path: Path
) -> None:
    fresh = checkpoints.new(model, options, Preparation())
    with pytest.raises(UsageError, match=f"model '{model}' does not learn to reconstruct a slice from another"):
        train(fresh, read_cohort(small_cohort), QUICK, tmp_path / "x.safetensors", Run())


def test_implants_are_of_the_size_that_the_recipe_gives(small_cohort: Path, tmp_path: Path) -> None:
    """A model with an option ``field_mm`` must have that of the preparation: else its millimetres are others."""
    fresh = checkpoints.new("implant", {}, preparation_of("thesis"))
    with pytest.raises(
        UsageError, match=r"slices of 240 mm for a model that takes them to have 208 mm. Add --field-mm 240"
    ):
        train(fresh, read_cohort(small_cohort), Schedule(epochs=1), tmp_path / "x.safetensors", Run())


def test_a_corruption_of_the_models_own_comes_in_its_place() -> None:
    both = [
        {one.name for one in schedule_options(registry.load("models", name).Options)} for name in ("ae", "scalespace")
    ]
    assert both[0] - both[1] == {"corruption"}
    for name in ("ae", "scalespace"):
        call("train", name, "none.tsv", "-o", "x.safetensors", "--corruption", "implants").refused(3, "none.tsv")


def test_trainings_begun_before_there_was_such_a_choice_are_still_recognised() -> None:
    assert "corruption" not in settings_of(Schedule())
    assert settings_of(QUICK)["corruption"] == "implants"
