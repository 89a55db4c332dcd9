"""uadtk's contract, and what is true of a denoising autoencoder."""

import json
from pathlib import Path

import pytest
import torch
import uadtk_dae
from uadtk_dae.model import Model, Options

from uadtk.checkpoint import load, open_checkpoint
from uadtk.networks.corruption import corrupt
from uadtk.networks.noise import coarse_noise
from uadtk.networks.seeded import seeded
from uadtk.plugin import Batch, UsageError
from uadtk.testing import checks, run_check
from uadtk.testing.contract import generators_untouched
from uadtk.testing.specimens import healthy_slices, planted

HEALTHY = healthy_slices(4, 32)


@pytest.mark.parametrize("check", checks("models", "dae"), ids=str)
def test_contract(check):
    outcome = run_check(check)
    assert outcome.status != "failed", f"{check.sentence} {outcome.reason}"


def small(**options) -> Model:
    with seeded(0):
        return Model(Options(**{"width": 4, **options}), 32).eval().requires_grad_(False)


def says(model: Model, answer) -> list[torch.Tensor]:
    """``model`` with another network; what that is shown is in the list."""
    seen = []
    model.net.forward = lambda x: seen.append(x) or answer(x)
    return seen


def test_the_papers_network():
    assert sum(p.numel() for p in Model(Options(), 128).parameters()) == 7_185_729
    assert sum(p.numel() for p in Model(Options(width=32), 128).parameters()) == 1_798_817


def test_loss_is_the_squared_error_over_normal_brain_and_the_mean_over_slices():
    image, lesion = planted(HEALTHY)
    model = small()
    says(model, lambda x: torch.full_like(x, 0.25))
    loss = model.training_loss(Batch(image, HEALTHY.brain, ~lesion))["loss"]
    torch.testing.assert_close(loss, (image - 0.25)[HEALTHY.brain & ~lesion].square().sum() / 4)
    assert model.training_loss(Batch(image, HEALTHY.brain, ~HEALTHY.brain))["loss"] == 0


@pytest.mark.parametrize("training", [True, False])
def test_training_and_validation_show_noise_and_want_the_image(training):
    model = small(noise=0.3).train(training)
    seen = says(model, lambda x: x)
    with seeded(1):
        loss = model.training_loss(HEALTHY)["loss"]
    with seeded(1):
        noise = coarse_noise(HEALTHY.brain, 0.3)
    torch.testing.assert_close(seen[0], HEALTHY.image + noise)
    torch.testing.assert_close(loss, noise.square().sum() / 4)  # what is left if nothing is taken away


def test_in_scoring_nothing_is_added():
    model = small(noise=2)
    seen = says(model, lambda x: x)
    with generators_untouched():
        model.reconstruct(HEALTHY.image)
        model.objective(HEALTHY.image)
    assert all(torch.equal(x, HEALTHY.image) for x in seen)


def test_objective_is_what_training_measures_of_each_slice_without_noise():
    model = small(noise=0)
    objective = model.objective(HEALTHY.image)
    error = (HEALTHY.image - model.reconstruct(HEALTHY.image)).square() * HEALTHY.brain
    torch.testing.assert_close(objective, error.flatten(1).sum(1))
    torch.testing.assert_close(objective.mean(), model.training_loss(HEALTHY)["loss"])


def test_trained_it_takes_noise_away():
    """Of noise it has not seen, on slices it has not seen."""
    slices = healthy_slices(8, 32)
    learned, held = (Batch(slices.image[s], slices.brain[s], slices.normal[s]) for s in (slice(4), slice(4, 8)))
    model = small(width=8).train().requires_grad_(True)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2, betas=model.betas)
    with seeded(2):
        for _ in range(60):
            optimiser.zero_grad()
            model.training_loss(learned)["loss"].backward()
            optimiser.step()
        noise = coarse_noise(held.brain, 0.2)
    with torch.no_grad():
        left = (model.eval().reconstruct(held.image + noise) - held.image) * held.brain
    assert left.square().sum() < 0.5 * noise.square().sum()


def test_sides_that_cannot_be_halved_three_times_are_refused():
    with pytest.raises(UsageError, match="slices of 100 pixels"):
        Model(Options(), 100)


def test_implants_in_place_of_noise():
    """What it is shown has them, what it is to make of it has not."""
    model = small(corruption="implants").train()
    seen = says(model, lambda x: x)
    with seeded(1):
        loss = model.training_loss(HEALTHY)["loss"]
    with seeded(1):
        shown, wanted = corrupt(HEALTHY, "implants", 0.0, learning=True)
    assert torch.equal(seen[0], shown)
    torch.testing.assert_close(loss, ((shown - wanted.image) * wanted.brain).square().sum() / 4)
    assert loss > 0


def test_the_shipped_weights_are_those_of_the_index():
    folder = Path(uadtk_dae.__file__).parent / "weights"
    about = json.loads((folder / "index.json").read_text(encoding="utf-8"))["models"]["dae"]
    checkpoint = open_checkpoint("dae")
    assert checkpoint.digest == load(folder / about["file"]).digest == about["digest"]
    assert [point.name for point in checkpoint.points] == ["p98", "p99.5"]
    assert checkpoint.new_model().options.width == 32
    assert "Not a medical device" in (folder / about["card"]).read_text(encoding="utf-8")
