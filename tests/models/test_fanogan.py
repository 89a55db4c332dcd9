from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.constant import constant
from tests.slices import error_and_that_of_the_mean, learn, phantom
from uadtk.core.model import capabilities
from uadtk.models.fanogan import Model, Options
from uadtk.networks.critics import ImageCritic
from uadtk.networks.generators import ResidualCritic, ResidualEncoder, ResidualGenerator
from uadtk.networks.seeded import seeded
from uadtk.testing.specimens import healthy_slices
from uadtk.training.optimisers import make_optimisers

BATCH = healthy_slices(2, 32)
MARKED = replace(BATCH, normal=BATCH.image < 0.7)
NETWORKS = ("encoder", "generator", "critic")


class Known(nn.Module):
    """A critic that can be worked out on paper, and keeps what it was shown; its features are the image's squares."""

    def __init__(self, value: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.value, self.shown, self.features = value, list[Tensor](), torch.square

    def forward(self, x: Tensor) -> Tensor:
        self.shown.append(x)
        return self.value(x)


def model(side: int = 32, critic: Callable[[Tensor], Tensor] | None = None, **options: Any) -> Model:
    with seeded(1):
        gan = Model(Options(**{"latent": 8, "gan_epochs": 3, **options}), side)
    if critic is not None:
        gan.critic = Known(critic)
    return gan


def loss(gan: Model, player: str, batch: Any = BATCH) -> dict[str, Tensor]:
    (turn,) = [turn for epoch in (1, 4) for turn in gan.turns(epoch) if turn.player == player]
    with seeded(2):
        return turn.loss(batch)


def reached(value: Tensor, gan: Model) -> set[str]:
    """The networks that ``value`` depends on, each with all of its parameters."""
    named = dict(gan.named_parameters())
    gradients = torch.autograd.grad(value, named.values(), allow_unused=True)
    names = {name for name, gradient in zip(named, gradients, strict=True) if gradient is not None}
    networks = {name.split(".")[0] for name in names}
    assert names >= {name for name in named if name.split(".")[0] in networks and "judge" not in name}
    return networks


def test_the_gan_learns_first_and_then_the_encoder_alone() -> None:
    gan = model(critic_steps=7)
    for epoch in (1, 3):
        assert [(turn.player, turn.times) for turn in gan.turns(epoch)] == [("critic", 7), ("generator", 1)]
    for epoch in (4, 1000):
        assert [(turn.player, turn.times) for turn in gan.turns(epoch)] == [("encoder", 1)]
    assert gan.judged_from == 4
    default = Model(Options(), 16)
    assert default.turns(default.judged_from)[0].player == "encoder"
    assert default.turns(default.judged_from - 1)[0].times == 5


def test_each_player_has_one_network_and_its_loss_reaches_that_and_what_it_goes_through() -> None:
    gan = model()
    networks = {name: {id(p) for p in network.parameters()} for name, network in gan.named_children()}
    assert {player: {id(p) for p in own} for player, own in gan.players().items()} == networks
    assert reached(loss(gan, "critic")["loss"], gan) == {"critic"}
    assert reached(loss(gan, "generator")["loss"], gan) == {"generator", "critic"}
    assert reached(loss(gan, "encoder")["loss"], gan) == {"encoder", "generator", "critic"}


def test_mean_squares_of_image_and_of_features_on_the_images_scale_over_normal_pixels() -> None:
    gan = model(critic=lambda x: x, kappa=0.5, ending="identity")
    constant(gan.generator, 0.25)

    def features(x: Tensor, normal: Tensor) -> Tensor:
        x, rebuilt = x * normal, 0.25 * normal
        apart = (x.square() - rebuilt.square()).square()
        return apart.mean((1, 2, 3)) * x.square().mean((1, 2, 3)) / x.pow(4).mean((1, 2, 3))

    for batch in (BATCH, MARKED):
        image = ((BATCH.image - 0.25).square() * batch.normal).mean()
        matched = features(BATCH.image, batch.normal).mean()
        losses = loss(gan, "encoder", batch)
        torch.testing.assert_close((losses["image"], losses["features"]), (image, matched))
        torch.testing.assert_close(losses["loss"], image + 0.5 * matched)
        torch.testing.assert_close(gan.training_loss(batch), losses)
    each = (BATCH.image - 0.25).square().mean((1, 2, 3)) + 0.5 * features(BATCH.image, BATCH.normal)
    torch.testing.assert_close(gan.objective(BATCH.image), each)


def test_the_features_are_those_of_the_critics_convolutions_whatever_their_scale() -> None:
    gan = model()
    x = BATCH.image
    before, rebuilt = gan.critic.features(x), gan.critic.features(gan.reconstruct(x))
    assert before.shape == (2, 64, 8, 8)
    relative = (before - rebuilt).square().mean((1, 2, 3)) / before.square().mean((1, 2, 3))
    expected = (relative * x.square().mean((1, 2, 3))).mean()
    torch.testing.assert_close(loss(gan, "encoder")["features"], expected)
    assert torch.autograd.grad(loss(gan, "encoder")["features"], gan.encoder[0][-1].weight)[0].any()
    gan.critic.features.append(nn.Conv2d(64, 64, 1, bias=False))
    nn.init.dirac_(gan.critic.features[-1].weight)
    with torch.no_grad():
        gan.critic.features[-1].weight *= 100
    torch.testing.assert_close(loss(gan, "encoder")["features"], expected)


def test_a_slice_without_brain_has_no_features_to_match() -> None:
    gan, empty = model(), torch.zeros(1, 1, 32, 32)
    torch.testing.assert_close(gan.objective(empty), gan.reconstruct(empty).square().mean((1, 2, 3)))


@pytest.mark.parametrize("player", ["critic", "generator"])
def test_fakes_are_of_new_draws_from_the_prior(player: str) -> None:
    gan, drawn = model(critic=lambda x: x.flatten(1).sum(1), latent=4096), []
    gan.generator.register_forward_hook(lambda _, z, image: drawn.append(z[0]))
    with seeded(2):
        for _ in range(2):
            gan.turns(1)[("critic", "generator").index(player)].loss(BATCH)
    one, two = drawn
    assert one.shape == (2, 4096)
    assert len({tuple(z.tolist()) for z in (*one, *two)}) == 4
    assert one.mean().item() == pytest.approx(0, abs=0.05)
    assert one.std().item() == pytest.approx(1, abs=0.05)


def test_the_critic_sees_neither_real_nor_generated_pixels_that_are_not_normal() -> None:
    """A slope of 3 in one pixel is a penalty of 4; what it loses is E[D(fake)] - E[D(real)] and that."""
    gan = model(critic=lambda x: 3 * x[:, 0, 16, 8], penalty=5.0)
    losses = loss(gan, "critic", MARKED)
    real, fake, _ = gan.critic.shown
    assert torch.equal(real, MARKED.image * MARKED.normal)
    assert fake[MARKED.normal].all()
    assert not fake[~MARKED.normal].any()
    assert MARKED.normal[:, 0, 16, 8].all()
    torch.testing.assert_close(losses["loss"], 3 * (fake - real)[:, 0, 16, 8].mean() + 5 * 4)


def test_the_generator_raises_what_the_critic_says_of_its_slices() -> None:
    gan = model(critic=lambda x: 2 * x.flatten(1).sum(1))
    losses = loss(gan, "generator", MARKED)
    (fake,) = gan.critic.shown
    assert not fake[~MARKED.normal].any()
    torch.testing.assert_close(losses["loss"], -2 * fake.sum() / 2)


def test_bounds_on_z_and_on_slices() -> None:
    bounded, free = model(), model(bounded=False, ending="identity")
    z, x = 3 * torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), 100 * BATCH.image
    torch.testing.assert_close(bounded.encoder(x), free.encoder(x).tanh())
    torch.testing.assert_close(bounded.generator(z), free.generator(z).sigmoid())
    assert free.encoder(x).abs().max() > 1
    torch.testing.assert_close(bounded.reconstruct(x), bounded.generator(bounded.encoder(x)))


def test_the_residual_network() -> None:
    gan = model(16, network="resnet")
    kinds = type(gan.encoder[0]), type(gan.generator[0]), type(gan.critic)
    assert kinds == (ResidualEncoder, ResidualGenerator, ResidualCritic)
    assert type(model(16).critic) is ImageCritic
    for player, parameters in gan.players().items():
        gradients = torch.autograd.grad(loss(gan, player, healthy_slices(2, 16))["loss"], parameters)
        assert all(gradient.isfinite().all() for gradient in gradients), player
    assert gan.reconstruct(torch.zeros(2, 1, 16, 16)).shape == (2, 1, 16, 16)


def test_it_has_no_samples() -> None:
    assert capabilities(model()) == {"training_loss", "reconstruct", "objective"}


def test_the_second_stage_brings_reconstructions_closer_and_leaves_the_gan_as_it_is() -> None:
    """The slices are the generator's own, so that the encoder can find them."""
    gan = model(16, latent=2, bounded=False)
    with torch.no_grad(), seeded(3):
        x = gan.generator(torch.randn(8, 2))
    batch = replace(healthy_slices(8, 16), image=x, normal=torch.ones_like(x, dtype=torch.bool))
    kept = {name: value.clone() for name, value in gan.state_dict().items() if not name.startswith("encoder")}
    before = gan.training_loss(batch)["loss"]
    (turn,), parameters = gan.turns(4), gan.players()["encoder"]
    adam = torch.optim.Adam(parameters, lr=3e-3, betas=gan.betas)
    for _ in range(40):
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(turn.loss(batch)["loss"], parameters), strict=True
        ):
            parameter.grad = gradient
        adam.step()
    assert gan.training_loss(batch)["loss"] < before / 2
    assert all(torch.equal(value, gan.state_dict()[name]) for name, value in kept.items())


@pytest.mark.long
@pytest.mark.slow
def test_after_both_stages_the_encoder_is_below_the_mean_image() -> None:
    """The critic sees brightness, so that the GAN learns it, and the encoder can find slices as bright as its input."""
    batch = phantom(32)
    with seeded(0):
        gan = Model(Options(gan_epochs=1, critic_steps=4, bounded=False), 32).train()
        learn(gan.turns(1), make_optimisers(gan, 7e-4), batch, 200, at_once=2)
        learn(gan.turns(2), make_optimisers(gan, 1e-3), batch, 120, at_once=4)
    error, of_mean = error_and_that_of_the_mean(gan, batch)
    assert error < of_mean
