from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.constant import constant, count
from uadtk.core.model import capabilities
from uadtk.models.aae import Model, Options
from uadtk.networks.seeded import seeded
from uadtk.plugin import Batch
from uadtk.testing.specimens import healthy_slices

BATCH = healthy_slices(2, 32)
LATENT = 4


class Known(nn.Module):
    """A critic that can be worked out on paper, and keeps what it was shown."""

    def __init__(self, value: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.value, self.shown = value, list[Tensor]()

    def forward(self, z: Tensor) -> Tensor:
        self.shown.append(z)
        return self.value(z)


def model(critic: Callable[[Tensor], Tensor] | None = None, **options: Any) -> Model:
    with seeded(1):
        aae = Model(Options(**{"latent": LATENT, "dropout": 0.0, **options}), 32)
    if critic is not None:
        aae.critic = Known(critic)
    return aae


def loss(aae: Model, player: str) -> dict[str, Tensor]:
    (turn,) = [turn for turn in aae.turns(1) if turn.player == player]
    with seeded(2):
        return turn.loss(BATCH)


def reached(value: Tensor, aae: Model) -> set[str]:
    """Names of the parameters that ``value`` depends on."""
    named = dict(aae.named_parameters())
    gradients = torch.autograd.grad(value, named.values(), allow_unused=True, retain_graph=True)
    return {name for name, gradient in zip(named, gradients, strict=True) if gradient is not None}


def test_parameters_of_the_study_and_of_its_critic() -> None:
    full = Model(Options(), 128)
    assert count(full.net) == 1_625_777
    assert count(full.critic) == 129 * 50 + 51 * 50 + 51


@pytest.mark.parametrize("kind", ["l1", "l2"])
def test_reconstruction_loss_of_a_grey_image_over_normal_pixels(kind: str) -> None:
    aae = constant(model(loss=kind), 0.25)
    error = (BATCH.image - 0.25).abs() if kind == "l1" else (BATCH.image - 0.25).square() / 32**2
    normal = BATCH.image > 0.5
    torch.testing.assert_close(aae.training_loss(BATCH)["loss"], error.sum() / 2)
    torch.testing.assert_close(aae.training_loss(replace(BATCH, normal=normal))["loss"], error[normal].sum() / 2)
    torch.testing.assert_close(aae.objective(BATCH.image), error.flatten(1).sum(1))


def test_the_players_are_those_that_their_losses_reach() -> None:
    """The encoder's includes the map to z."""
    aae = model()
    names = {id(parameter): name for name, parameter in aae.named_parameters()}
    players = {player: {names[id(p)] for p in parameters} for player, parameters in aae.players().items()}
    assert set.union(*players.values()) == set(names.values())
    assert reached(aae.net.encode(BATCH.image)[0].sum(), aae) == players["encoder"]
    assert players["encoder"] >= {"net.latent.heads.0.weight", "net.latent.squeeze.weight", "net.encoder.0.weight"}
    assert reached(loss(aae, "autoencoder")["loss"], aae) == players["autoencoder"]
    assert reached(loss(aae, "encoder")["loss"], aae) == players["encoder"] | players["critic"]
    assert reached(loss(aae, "critic")["loss"], aae) == players["critic"]


def test_turns_are_twenty_of_the_autoencoder_until_epoch_six_then_one() -> None:
    aae = model(critic_steps=7)
    for epoch, times in ((1, 20), (6, 20), (7, 1), (100, 1)):
        turns = [(turn.player, turn.times) for turn in aae.turns(epoch)]
        assert turns == [("autoencoder", times), ("critic", 7), ("encoder", 1)]
    assert [turn.times for turn in Model(Options(warm_up=3), 16).turns(6)] == [3, 20, 1]
    assert aae.judged_from == 7


def test_the_critic_tells_fresh_draws_from_the_prior_from_z() -> None:
    """A slope of 3 in one number of z is a penalty of 4; what it loses is E[D(z)] - E[D(prior)] and that."""
    aae = model(critic=lambda z: 3 * z[:, 0], penalty=5.0)
    (z,) = aae.net.encode(BATCH.image)
    with seeded(2):
        prior = torch.randn(2, LATENT)
    losses = loss(aae, "critic")
    torch.testing.assert_close(losses["loss"], 3 * (z[:, 0].mean() - prior[:, 0].mean()) + 5 * 4)
    aae.turns(1)[1].loss(BATCH)
    assert not torch.equal(aae.critic.shown[0], aae.critic.shown[3])


def test_the_penalty_is_at_points_between_prior_and_z() -> None:
    aae = model(critic=lambda z: z.square().sum(1))
    loss(aae, "critic")
    real, fake, between = aae.critic.shown
    share = (between - real) / (fake - real)
    torch.testing.assert_close(share.amin(1), share.amax(1), atol=1e-3, rtol=0)
    assert ((share > 0) & (share < 1)).all()


def test_the_encoder_raises_what_the_critic_says_of_z() -> None:
    aae = model(critic=lambda z: 2 * z.sum(1))
    losses = loss(aae, "encoder")
    (z,) = aae.net.encode(BATCH.image)
    torch.testing.assert_close(losses["loss"], -2 * z.sum(1).mean())


def test_training_has_no_dropout() -> None:
    aae = model(critic=lambda z: z.sum(1), dropout=0.5, latent=64).train()
    (z,) = aae.net.encode(BATCH.image)
    torch.testing.assert_close(loss(aae, "autoencoder")["loss"], aae.objective(BATCH.image).mean())
    loss(aae, "critic")
    torch.testing.assert_close(aae.critic.shown[1], z)
    loss(aae, "encoder")
    torch.testing.assert_close(aae.critic.shown[-1], z)


def test_samples_drop_numbers_of_z_and_scale_the_others() -> None:
    aae = model(dropout=0.5).eval()
    aae.net.decode = lambda z: z[:, None, None]  # type: ignore[method-assign]
    (z,) = aae.net.encode(BATCH.image)
    with seeded(3):
        drawn = aae.sample(BATCH.image, 40)[:, :, 0, 0]
    zero = drawn == 0
    assert torch.allclose(drawn, torch.where(zero, 0.0, z / 0.5))
    assert 0.4 < zero.float().mean() < 0.6


@pytest.mark.parametrize(("dropout", "has"), [(0.2, True), (0.0, False)])
def test_only_a_model_with_dropout_offers_samples(dropout: float, has: bool) -> None:
    assert ("sample" in capabilities(model(dropout=dropout))) == has


@pytest.mark.slow
def test_training_lowers_the_error_and_brings_z_to_the_prior() -> None:
    """z starts at 3 for all slices; without the adversary it stays above 1 and next to the same for all."""
    batch = healthy_slices(16, 16)
    with seeded(1):
        aae = Model(Options(latent=LATENT, warm_up=2, critic_steps=5), 16)
        nn.init.constant_(aae.net.latent.heads[0].bias, 3.0)
        before, _, spread = state(aae, batch)
        train(aae, batch, epochs=8, steps=10)
        after, centre, wider = state(aae, batch)
    assert after < before / 2
    assert centre.abs() < 1
    assert 3 * spread < wider < 2


def state(aae: Model, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Reconstruction loss, mean of z, and how far z differs from slice to slice."""
    with torch.no_grad():
        (z,) = aae.eval().net.encode(batch.image)
        return aae.training_loss(batch)["loss"], z.mean(), z.std(0).mean()


def train(aae: Model, batch: Batch, epochs: int, steps: int) -> None:
    players = aae.train().players()
    adams = {player: torch.optim.Adam(players[player], lr=3e-3, betas=aae.betas) for player in players}
    for epoch in range(1, epochs + 1):
        for turn in [each for each in aae.turns(epoch) for _ in range(each.times)] * steps:
            gradients = torch.autograd.grad(turn.loss(batch)["loss"], players[turn.player])
            for parameter, gradient in zip(players[turn.player], gradients, strict=True):
                parameter.grad = gradient
            adams[turn.player].step()
