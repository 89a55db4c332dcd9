from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.constant import constant, count
from uadtk.models.anovaegan import Model, Options
from uadtk.networks.seeded import seeded
from uadtk.networks.unified import gaussian_kl
from uadtk.testing.specimens import healthy_slices

BATCH = healthy_slices(2, 32)
MARKED = replace(BATCH, normal=BATCH.image < 0.7)


class Known(nn.Module):
    """A critic that can be worked out on paper, and keeps what it was shown."""

    def __init__(self, value: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.value, self.shown = value, list[Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        self.shown.append(x)
        return self.value(x)


def model(mean: float | None = None, log_std: float = 0.0, **options: Any) -> Model:
    """With ``mean`` it says of every image that z is N(mean, exp(log_std)²), and z itself is its reconstruction."""
    with seeded(1):
        gan = Model(Options(**{"latent": 8, **options}), 32).eval()
    if mean is not None:
        to_z = gan.encoder[-1]
        nn.init.zeros_(to_z.weight)
        with torch.no_grad():
            to_z.bias.copy_(torch.tensor([mean, log_std]).repeat_interleave(gan.options.latent))
        gan.generator = nn.Unflatten(1, (1, 1, -1))
    return gan


def loss(gan: Model, player: str, batch: Any = BATCH) -> dict[str, Tensor]:
    (turn,) = [turn for turn in gan.turns(1) if turn.player == player]
    with seeded(2):
        return turn.loss(batch)


def reached(value: Tensor, gan: Model) -> set[str]:
    """Names of the parameters that ``value`` depends on."""
    named = dict(gan.named_parameters())
    gradients = torch.autograd.grad(value, named.values(), allow_unused=True)
    return {name for name, gradient in zip(named, gradients, strict=True) if gradient is not None}


def test_parameters_of_the_studys_vae() -> None:
    full = Model(Options(), 128)
    assert count(full.encoder) + count(full.generator) == 1_756_977


def test_weight_of_a_summed_divergence_beside_a_summed_error_over_normal_pixels() -> None:
    gan = model(mean=0.5, log_std=-1.0, kl_weight=0.5)
    gan.generator = constant(model().generator, 0.25)
    error = (BATCH.image - 0.25).abs()
    kl = torch.tensor(8 * 0.5 * (0.5**2 + math.exp(-2) + 2 - 1))
    for batch in (BATCH, MARKED):
        losses = gan.training_loss(batch)
        torch.testing.assert_close((losses["reconstruction"], losses["kl"]), (error[batch.normal].sum() / 2, kl))
        torch.testing.assert_close(losses["loss"], losses["reconstruction"] + 0.5 * kl)
    torch.testing.assert_close(gan.objective(BATCH.image), error.flatten(1).sum(1) + 0.5 * kl)


def test_the_players_are_those_that_their_losses_reach() -> None:
    gan = model()
    names = {id(parameter): name for name, parameter in gan.named_parameters()}
    players = {player: {names[id(p)] for p in parameters} for player, parameters in gan.players().items()}
    assert set.union(*players.values()) == set(names.values())
    assert {name.split(".")[0] for name in players["autoencoder"]} == {"encoder", "generator"}
    assert reached(loss(gan, "autoencoder")["loss"], gan) == players["autoencoder"] | players["critic"]
    assert reached(gan.training_loss(BATCH)["loss"], gan) == players["autoencoder"]
    assert reached(loss(gan, "critic")["loss"], gan) == players["critic"]


def test_turns_are_the_autoencoder_and_the_critic_five_times() -> None:
    turns = [(turn.player, turn.times) for turn in Model(Options(), 16).turns(1)]
    assert turns == [("autoencoder", 1), ("critic", 5)]
    assert model(critic_steps=7).turns(9)[-1].times == 7


def test_the_critic_tells_slices_from_their_own_reconstructions_at_normal_pixels() -> None:
    """A slope of 3 in one pixel is a penalty of 4; what it loses is E[D(x̂)] - E[D(x)] and that."""
    gan = model(penalty=5.0)
    nn.init.constant_(gan.encoder[-1].bias[8:], -20.0)  # z is as good as its mean
    gan.critic = Known(lambda x: 3 * x[:, 0, 16, 8])
    losses = loss(gan, "critic", MARKED)
    real, fake, _ = gan.critic.shown
    assert torch.equal(real, MARKED.image * MARKED.normal)
    torch.testing.assert_close(fake, gan.reconstruct(MARKED.image) * MARKED.normal, atol=1e-4, rtol=1e-4)
    assert MARKED.normal[:, 0, 16, 8].all()
    torch.testing.assert_close(losses["loss"], 3 * (fake - real)[:, 0, 16, 8].mean() + 5 * 4)


def test_the_autoencoder_also_raises_what_the_critic_says_of_reconstructions_at_normal_pixels() -> None:
    """The validation loss does not have that term."""
    gan = model(adversarial=3.0)
    gan.critic = Known(lambda x: 2 * x.flatten(1).sum(1))
    losses = loss(gan, "autoencoder", MARKED)
    (fake,) = gan.critic.shown
    assert fake[MARKED.normal].all()
    assert not fake[~MARKED.normal].any()
    with seeded(2):
        plain = gan.training_loss(MARKED)
    torch.testing.assert_close(losses["value"], 2 * fake.sum() / 2)
    torch.testing.assert_close(losses["loss"], plain["loss"] - 3 * losses["value"])
    assert plain.keys() == {"loss", "reconstruction", "kl"}


@pytest.mark.parametrize("player", ["autoencoder", "critic"])
def test_every_turn_draws_z_anew_and_drops_some_of_it_in_training(player: str) -> None:
    """Mean 100 is scaled or gone; log σ -9 is scaled or gone; z shows which."""
    gan, drawn = model(mean=100, log_std=-9, dropout=0.5, latent=4096), []
    gan.generator.register_forward_hook(lambda _, z, image: drawn.append(z[0]) or torch.zeros_like(BATCH.image))
    gan.critic = Known(lambda x: x.flatten(1).sum(1))
    (turn,) = [turn for turn in gan.turns(1) if turn.player == player]
    with seeded(2):
        for mode in (True, True, False):
            gan.train(mode)
            turn.loss(BATCH)
    z, again, whole = drawn
    assert not torch.equal(z, again)
    gone = z.abs() < 100
    assert gone.float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert (z[~gone] - 200).std().item() == pytest.approx(math.sqrt(0.5), abs=0.05)  # σ is 1 or next to nothing
    assert torch.allclose(whole, torch.tensor(100.0), atol=1e-2)
    assert whole.std() > 0


def test_reconstruction_is_from_the_mean_and_samples_are_draws_without_dropout() -> None:
    gan = model(mean=3, log_std=-1, dropout=0.9)
    assert (gan.reconstruct(BATCH.image) == 3).all()
    with seeded(2):
        z = gan.sample(BATCH.image, 600)
    assert z.shape == (600, 2, 1, 1, 8)
    assert z.mean().item() == pytest.approx(3, abs=0.03)
    assert z.std().item() == pytest.approx(math.exp(-1), abs=0.03)
    assert not torch.equal(z[0, 0], z[0, 1])


def test_a_spatial_latent_is_a_map_that_keeps_places() -> None:
    gan = model(bottleneck="spatial", latent=3)
    with torch.no_grad():
        mean, log_std = gan._encode(BATCH.image)
        assert mean.shape == log_std.shape == (2, 3, 8, 8)
        assert log_std.mean() < -2
        x = BATCH.image.clone()
        x[:, :, :4, :4] += 1
        moved = (gan._encode(x)[0] - mean).abs().amax((0, 1))
    assert moved[0, 0] > 0
    assert not moved[4:].any()
    assert gan.sample(BATCH.image, 2).shape == (2, *BATCH.image.shape)
    kl = gaussian_kl(mean, log_std)
    objective = (BATCH.image - gan.reconstruct(BATCH.image)).abs().flatten(1).sum(1) + kl
    torch.testing.assert_close(gan.objective(BATCH.image), objective)
    for player, parameters in gan.players().items():
        gradients = torch.autograd.grad(loss(gan, player)["loss"], parameters)
        assert all(gradient.isfinite().all() for gradient in gradients), player
