from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from uadtk.core.model import capabilities
from uadtk.models.anogan import Model, Options
from uadtk.networks.seeded import seeded
from uadtk.testing.specimens import healthy_slices

BATCH = healthy_slices(2, 32)
MARKED = replace(BATCH, normal=BATCH.image < 0.7)
X = healthy_slices(3, 16).image


class Known(nn.Module):
    """A critic that can be worked out on paper, and keeps what it was shown."""

    def __init__(self, value: Callable[[Tensor], Tensor], features: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.value, self.features, self.shown = value, features, list[Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        self.shown.append(x)
        return self.value(x)


def model(side: int = 32, critic: Callable[[Tensor], Tensor] | None = None, **options: Any) -> Model:
    with seeded(1):
        gan = Model(Options(**{"latent": 8, "steps": 5, **options}), side).eval()
    if critic is not None:
        gan.critic = Known(critic, torch.square)
    return gan


def plain(features: Callable[[Tensor], Tensor] = torch.square, **options: Any) -> Model:
    """Its slices have four pixels, and are z."""
    gan = model(latent=4, **options)
    gan.generator, gan.critic = nn.Unflatten(1, (1, 2, 2)), Known(lambda x: x, features)
    return gan


def reached(value: Tensor, gan: Model) -> set[str]:
    """The networks that ``value`` depends on."""
    named = dict(gan.named_parameters())
    gradients = torch.autograd.grad(value, named.values(), allow_unused=True)
    return {name.split(".")[0] for name, gradient in zip(named, gradients, strict=True) if gradient is not None}


def test_turns_are_the_critic_five_times_and_the_generator() -> None:
    default = Model(Options(), 16)
    assert [(turn.player, turn.times) for turn in default.turns(1)] == [("critic", 5), ("generator", 1)]
    assert model(critic_steps=7).turns(100)[0].times == 7
    assert default.judged_from == math.inf
    assert capabilities(default) == {"training_loss", "reconstruct"}


def test_each_player_has_one_network_and_its_loss_reaches_that_and_what_it_goes_through() -> None:
    gan = model()
    networks = {name: {id(p) for p in network.parameters()} for name, network in gan.named_children()}
    assert {player: {id(p) for p in own} for player, own in gan.players().items()} == networks
    critic, generator = gan.turns(1)
    assert reached(critic.loss(BATCH)["loss"], gan) == {"critic"}
    assert reached(generator.loss(BATCH)["loss"], gan) == {"generator", "critic"}


def test_the_critic_sees_neither_real_nor_generated_pixels_that_are_not_normal() -> None:
    """A slope of 3 in one pixel is a penalty of 4; what it loses is E[D(fake)] - E[D(real)] and that."""
    gan = model(critic=lambda x: 3 * x[:, 0, 16, 8], penalty=5.0)
    loss = gan.turns(1)[0].loss(MARKED)["loss"]
    real, fake, _ = gan.critic.shown
    assert torch.equal(real, MARKED.image * MARKED.normal)
    assert fake[MARKED.normal].all()
    assert not fake[~MARKED.normal].any()
    assert MARKED.normal[:, 0, 16, 8].all()
    torch.testing.assert_close(loss, 3 * (fake - real)[:, 0, 16, 8].mean() + 5 * 4)


def test_the_generator_raises_what_the_critic_says_of_its_slices() -> None:
    gan = model(critic=lambda x: 2 * x.flatten(1).sum(1))
    loss = gan.turns(1)[1].loss(MARKED)["loss"]
    (fake,) = gan.critic.shown
    assert not fake[~MARKED.normal].any()
    torch.testing.assert_close(loss, -2 * fake.sum() / 2)


def test_what_is_logged_is_the_critics_distance_between_real_and_generated_slices() -> None:
    gan = model(critic=lambda x: 2 * x.flatten(1).sum(1))
    loss = gan.training_loss(MARKED)["loss"]
    real, fake = gan.critic.shown
    assert torch.equal(real, MARKED.image * MARKED.normal)
    assert not fake[~MARKED.normal].any()
    torch.testing.assert_close(loss, 2 * (real - fake).sum() / 2)


@pytest.mark.parametrize("turn", [0, 1])
def test_fakes_are_of_new_draws_from_the_prior_and_within_zero_and_one(turn: int) -> None:
    gan, drawn = model(critic=lambda x: x.flatten(1).sum(1), latent=4096), []
    gan.generator.register_forward_hook(lambda _, z, image: drawn.append((z[0], image)))
    with seeded(2):
        for _ in range(2):
            gan.turns(1)[turn].loss(BATCH)
    (one, fake), (two, _) = drawn
    assert len({tuple(z.tolist()) for z in (*one, *two)}) == 4
    assert one.mean().item() == pytest.approx(0, abs=0.05)
    assert one.std().item() == pytest.approx(1, abs=0.05)
    assert 0 < fake.min() < 0.3
    assert 0.7 < fake.max() < 1


@pytest.mark.parametrize("weight", [0.0, 0.1, 1.0])
def test_the_search_goes_down_absolute_differences_of_pixels_and_features(weight: float) -> None:
    gan = plain(weight=weight)
    x, z = torch.tensor([[[[0.5, 2.0], [-1.0, 3.0]]]]), torch.tensor([[[[-1.0, 2.0], [1.0, 1.0]]]])
    image, features = 1.5 + 0 + 2 + 2, 0.75 + 0 + 0 + 8
    distance = gan._distance(x, x.square(), z)
    torch.testing.assert_close(distance, torch.tensor([(1 - weight) * image + weight * features]))


def test_steps_are_adams_in_z_from_the_same_start_for_all_slices() -> None:
    """Adam's first step is its rate, up or down."""
    x = torch.tensor([-9.0, 9.0])[:, None, None, None].expand(2, 1, 2, 2)
    gan = plain(features=lambda x: 0 * x, steps=1, rate=0.25)
    start = gan.start.view(1, 2, 2)
    torch.testing.assert_close(gan.reconstruct(x), torch.stack([start - 0.25, start + 0.25]))
    with seeded(7):
        assert torch.equal(Model(gan.options, 16).start, gan.start)
    assert gan.start.std() > 0.3
    found = plain(features=lambda x: 0 * x, steps=500, rate=0.05).reconstruct(x / 9)
    torch.testing.assert_close(found, x / 9, atol=0.05, rtol=0)


def test_features_pull_as_their_weight_says() -> None:
    """From -0.2 a pixel at 0.5 pulls up with 1 - weight, its square pulls down with 0.4 weight."""
    for weight, moved in ((0.6, 0.1), (0.8, -0.1)):
        gan = plain(steps=1, rate=0.1, weight=weight)
        nn.init.constant_(gan.start, -0.2)
        found = gan.reconstruct(torch.full((1, 1, 2, 2), 0.5))
        torch.testing.assert_close(found, torch.full((1, 1, 2, 2), -0.2 + moved))


def test_more_steps_bring_every_slice_closer() -> None:
    distances = []
    for steps in (1, 20):
        gan = model(16, steps=steps)
        with torch.no_grad():
            distances.append(gan._distance(X, gan.critic.features(X), gan.reconstruct(X)))
    assert (distances[1] < distances[0]).all()


def test_slices_do_not_mix() -> None:
    """To the last bit, whatever the others of a batch are."""
    gan = model(16, steps=20)
    others = torch.cat([X[:1], X[1:].flip(0) * 0.5])
    assert torch.equal(gan.reconstruct(X)[0], gan.reconstruct(others)[0])


def test_the_search_learns_nothing_but_z_and_works_without_gradients_around_it() -> None:
    gan = model(16)
    before = {name: value.clone() for name, value in gan.state_dict().items()}
    found = gan.reconstruct(X)
    assert not found.requires_grad
    with torch.inference_mode():
        seen = X.clone()
        assert torch.equal(gan.reconstruct(seen), found)
        assert torch.equal(seen, X)
    with torch.no_grad():
        assert torch.equal(gan.requires_grad_(False).reconstruct(X), found)
    assert all(parameter.grad is None for parameter in gan.parameters())
    assert all(torch.equal(value, before[name]) for name, value in gan.state_dict().items())
