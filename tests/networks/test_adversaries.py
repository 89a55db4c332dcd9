"""Turns of critics, generators and encoders."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from uadtk.networks.adversaries import critic_turn, generated, generator_turn, latent_players, latent_turns
from uadtk.networks.critics import LatentCritic
from uadtk.networks.dense import DenseAutoencoder
from uadtk.networks.residual_blocks import ResidualAutoencoder
from uadtk.networks.seeded import seeded
from uadtk.plugin import Batch, Turn
from uadtk.testing.specimens import healthy_slices, planted

HEALTHY = healthy_slices(3, 32)
IMAGE, LESION = planted(HEALTHY)
MARKED = Batch(IMAGE, HEALTHY.brain, ~LESION)


class Critic:
    """Twice the sum of what it is shown; keeps that."""

    def __init__(self) -> None:
        self.shown: list[Tensor] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.shown.append(x)
        return 2 * x.flatten(1).sum(1)


def test_the_critic_takes_its_steps_on_masked_slices_and_no_gradient_reaches_the_fakes() -> None:
    critic, fakes = Critic(), []

    def fake(batch: Batch) -> Tensor:
        fakes.append(torch.is_grad_enabled())
        return 0.5 * batch.image * batch.normal

    turn = critic_turn(critic, fake, times=4, penalty=0.0)
    loss = turn.loss(MARKED)["loss"]
    assert (turn.player, turn.times, fakes) == ("critic", 4, [False])
    assert torch.equal(critic.shown[0], IMAGE * ~LESION)
    torch.testing.assert_close(loss, -(IMAGE * ~LESION).sum() / 3)


def test_a_generator_raises_the_critics_value_with_a_gradient() -> None:
    weight = torch.tensor(3.0, requires_grad=True)
    turn = generator_turn(Critic(), lambda batch: weight * batch.image, "maker")
    loss = turn.loss(MARKED)["loss"]
    assert (turn.player, turn.times) == ("maker", 1)
    torch.testing.assert_close(loss, -2 * 3 * IMAGE.sum() / 3)
    loss.backward()
    torch.testing.assert_close(weight.grad, -2 * IMAGE.sum() / 3)


def test_generated_slices_are_of_fresh_draws_and_masked() -> None:
    drawn = []

    def generator(z: Tensor) -> Tensor:
        drawn.append(z)
        return torch.ones_like(IMAGE)

    slices = [generated(generator, 1000, MARKED) for _ in range(2)]
    assert all(torch.equal(one, (~LESION).float()) for one in slices)
    assert [tuple(z.shape) for z in drawn] == [(3, 1000)] * 2
    assert not torch.equal(*drawn)
    assert torch.cat(drawn).std().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("network", [DenseAutoencoder, ResidualAutoencoder])
def test_the_encoder_owns_every_layer_up_to_z(network: type) -> None:
    with seeded(0):
        net, critic = network(32, 5), LatentCritic(5, (4,))
    players = latent_players(net, critic)
    (z,) = net.encode(IMAGE)
    found = torch.autograd.grad(z.sum(), list(net.parameters()), allow_unused=True)
    reached = [p for p, gradient in zip(net.parameters(), found, strict=True) if gradient is not None]
    assert {id(p) for p in players["encoder"]} == {id(p) for p in reached}
    assert {id(p) for p in players["autoencoder"]} == {id(p) for p in net.parameters()}
    assert {id(p) for p in players["critic"]} == {id(p) for p in critic.parameters()}


def test_latent_turns_are_the_critics_and_one_of_the_encoder() -> None:
    with seeded(0):
        net, critic = DenseAutoencoder(32, 5), nn.Sequential(nn.Linear(5, 1), nn.Flatten(0))
    turns = latent_turns(net, critic, times=7, penalty=1.0)
    assert [(turn.player, turn.times) for turn in turns] == [("critic", 7), ("encoder", 1)]
    own = list(net.parameters())
    assert all(gradient is None for gradient in _gradients(turns[0], own))
    assert any(gradient is not None for gradient in _gradients(turns[1], own))


def test_the_critic_of_a_latent_encodes_once() -> None:
    """With or without what was computed before, its loss is the same."""
    with seeded(0):
        net, critic = DenseAutoencoder(32, 5), LatentCritic(5, (4,))
    turn = latent_turns(net, critic, times=7, penalty=1.0)[0]
    assert turn.once is not None
    losses = []
    for given in ((), (turn.once(MARKED).detach(),)):
        with seeded(3):
            losses.append(turn.loss(MARKED, *given)["loss"])
    assert torch.equal(*losses)


def _gradients(turn: Turn, parameters: list[Tensor]) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(turn.loss(MARKED)["loss"], parameters, allow_unused=True)
