from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.constant import constant, count
from uadtk.core.model import capabilities
from uadtk.models import constrained_ae
from uadtk.models.constrained_aae import Model, Options
from uadtk.networks.residual_blocks import ResidualAutoencoder
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


def test_the_default_weight_is_the_one_at_which_the_constraint_acts() -> None:
    """Shown in the test of ``constrained-ae``: 1 does nothing beside a sum over the pixels."""
    assert Options().weight == constrained_ae.Options().weight


def test_networks_and_critics_of_the_study_and_of_the_authors() -> None:
    study = Model(Options(), 128)
    assert count(study.net) == 1_625_777
    assert count(study.critic) == 129 * 100 + 101 * 50 + 51
    authors = model(network="chen", latent=128)
    assert isinstance(authors.net, ResidualAutoencoder)
    assert count(authors.critic) == 129 * 200 + 201 * 400 + 401
    assert authors.reconstruct(BATCH.image).shape == BATCH.image.shape


@pytest.mark.parametrize("kind", ["l1", "l2", "norm"])
def test_losses_of_a_grey_reconstruction(kind: str) -> None:
    """z is the first four pixels of the image, so its own after reconstruction is four times the grey."""
    aae = constant(model(loss=kind, weight=0.5), 0.25)
    aae.net.encode = lambda x: [x[:, 0, 16, 14:18]]
    error, latent = BATCH.image - 0.25, 0.25 - BATCH.image[:, 0, 16, 14:18]
    normal = BATCH.image > 0.5
    apart = latent.square().mean() if kind == "l2" else latent.square().sum() / 2

    def summed(inside: Tensor) -> Tensor:
        left = error * inside
        if kind == "norm":
            return left.square().flatten(1).sum(1).sqrt().mean()
        return left.abs().sum() / 2 if kind == "l1" else left.square().mean()

    losses = aae.training_loss(BATCH)
    torch.testing.assert_close((losses["reconstruction"], losses["latent"]), (summed(normal | True), apart))
    torch.testing.assert_close(losses["loss"], losses["reconstruction"] + 0.5 * apart)
    torch.testing.assert_close(aae.objective(BATCH.image).mean(), losses["loss"])
    torch.testing.assert_close(aae.training_loss(replace(BATCH, normal=normal))["reconstruction"], summed(normal))


def test_a_perfect_reconstruction_has_a_finite_gradient() -> None:
    aae = constant(model(loss="norm"), 0.0)
    nothing = replace(BATCH, image=BATCH.image * 0)
    gradients = torch.autograd.grad(aae.training_loss(nothing)["loss"], list(aae.net.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_gradients_flow_through_both_passes_and_the_decoder() -> None:
    """The gradient of the latents' distance is that of both ends; holding either end still gives another one."""
    aae = model()
    weight = aae.net.encoder[0].weight
    distance = aae.training_loss(BATCH)["latent"]
    assert all(g.any() for g in torch.autograd.grad(distance, [p for p in aae.net.parameters() if p.ndim > 1]))

    def gradient(hold_first: bool, hold_second: bool) -> Tensor:
        (z,) = aae.net.encode(BATCH.image)
        (again,) = aae.net.encode(aae.net.decode(z))
        distance = (again.detach() if hold_second else again) - (z.detach() if hold_first else z)
        return torch.autograd.grad(distance.square().sum() / 2, weight)[0]

    (found,) = torch.autograd.grad(aae.training_loss(BATCH)["latent"], weight)
    torch.testing.assert_close(found, gradient(False, False))
    assert not torch.allclose(found, gradient(True, False))
    assert not torch.allclose(found, gradient(False, True))


@pytest.mark.parametrize("network", ["unified", "chen"])
def test_the_players_are_those_that_their_losses_reach(network: str) -> None:
    """The encoder's includes the map to z."""
    aae = model(network=network)
    names = {id(parameter): name for name, parameter in aae.named_parameters()}
    players = {player: {names[id(p)] for p in parameters} for player, parameters in aae.players().items()}
    assert set.union(*players.values()) == set(names.values())
    assert reached(aae.net.encode(BATCH.image)[0].sum(), aae) == players["encoder"]
    assert reached(loss(aae, "autoencoder")["loss"], aae) == players["autoencoder"] > players["encoder"]
    assert reached(loss(aae, "encoder")["loss"], aae) == players["encoder"] | players["critic"]
    assert reached(loss(aae, "critic")["loss"], aae) == players["critic"]


def test_turns_are_twenty_of_the_autoencoder_until_epoch_six_then_one() -> None:
    aae = model(critic_steps=7)
    for epoch, times in ((1, 20), (6, 20), (7, 1), (100, 1)):
        turns = [(turn.player, turn.times) for turn in aae.turns(epoch)]
        assert turns == [("autoencoder", times), ("critic", 7), ("encoder", 1)]
    assert [turn.times for turn in Model(Options(warm_up=3), 16).turns(6)] == [3, 20, 1]
    assert aae.judged_from == 7


def test_the_critic_tells_fresh_draws_from_the_prior_from_z_and_the_encoder_raises_it() -> None:
    """A slope of 3 in one number of z is a penalty of 4; what it loses is E[D(z)] - E[D(prior)] and that."""
    aae = model(critic=lambda z: 3 * z[:, 0], penalty=5.0)
    (z,) = aae.net.encode(BATCH.image)
    with seeded(2):
        prior = torch.randn(2, LATENT)
    losses = loss(aae, "critic")
    torch.testing.assert_close(losses["loss"], 3 * (z[:, 0].mean() - prior[:, 0].mean()) + 5 * 4)
    aae.turns(1)[1].loss(BATCH)
    assert not torch.equal(aae.critic.shown[0], aae.critic.shown[3])
    torch.testing.assert_close(loss(aae, "encoder")["loss"], -3 * z[:, 0].mean())


def test_training_has_no_dropout() -> None:
    """Else its noise, and not the reconstruction, would make the distance of the two latents."""
    aae = constant(model(critic=lambda z: z.sum(1), dropout=0.5), 0.0).train()
    nn.init.constant_(aae.net.latent.heads[0].bias, 3.0)  # either z is (3, 3, 3, 3)
    assert aae.training_loss(BATCH)["latent"] == 0
    loss(aae, "critic")
    loss(aae, "encoder")
    assert all((aae.critic.shown[i] == 3).all() for i in (1, -1))


def test_only_a_model_with_dropout_offers_samples() -> None:
    assert "sample" not in capabilities(model())
    with seeded(3):
        one, two = model(dropout=0.5).eval().sample(BATCH.image, 2)
    assert not torch.equal(one, two)


def test_training_lowers_the_error_and_brings_z_to_the_prior() -> None:
    """z starts at 3 for all slices; without the adversary it stays next to the same for all."""
    batch = healthy_slices(16, 16)
    with seeded(1):
        aae = Model(Options(latent=LATENT, warm_up=2, critic_steps=10), 16)
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
        return aae.training_loss(batch)["reconstruction"], z.mean(), z.std(0).mean()


def train(aae: Model, batch: Batch, epochs: int, steps: int) -> None:
    players = aae.train().players()
    adams = {player: torch.optim.Adam(players[player], lr=3e-3, betas=aae.betas) for player in players}
    for epoch in range(1, epochs + 1):
        for turn in [each for each in aae.turns(epoch) for _ in range(each.times)] * steps:
            gradients = torch.autograd.grad(turn.loss(batch)["loss"], players[turn.player])
            for parameter, gradient in zip(players[turn.player], gradients, strict=True):
                parameter.grad = gradient
            adams[turn.player].step()
