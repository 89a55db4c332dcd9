"""Critics and the gradient penalty."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from uadtk.networks.critics import ImageCritic, LatentCritic, critic_loss, gradient_penalty
from uadtk.networks.seeded import seeded
from uadtk.testing.specimens import healthy_slices

REAL, FAKE = torch.rand(2, 4, 1, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("slope", "penalty"), [(1.0, 0.0), (3.0, 4.0), (0.0, 1.0)])
def test_the_penalty_is_on_the_norm_over_the_whole_image(slope: float, penalty: float) -> None:
    """A linear critic whose gradient has norm ``slope`` over all pixels, whatever it is along one axis."""
    direction = torch.rand(256, generator=torch.Generator().manual_seed(1))
    direction = slope * direction / direction.norm()
    found = gradient_penalty(lambda x: x.flatten(1) @ direction, REAL, FAKE)
    torch.testing.assert_close(found, torch.tensor(penalty), atol=1e-4, rtol=1e-4)


def test_points_lie_between_real_and_fake_and_each_sample_has_its_own() -> None:
    seen = []

    def critic(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return x.flatten(1).square().sum(1)

    for real, fake in ((REAL, FAKE), (REAL.flatten(1), FAKE.flatten(1))):
        gradient_penalty(critic, real, fake)
        share = ((seen[-1] - real) / (fake - real)).flatten(1)
        torch.testing.assert_close(share.amin(1), share.amax(1), atol=1e-3, rtol=0)
        assert ((share > 0) & (share < 1)).all()
        assert len(share[:, 0].unique()) == len(real)


def test_the_critics_loss() -> None:
    losses = critic_loss(lambda x: 2 * x.flatten(1).mean(1), REAL, FAKE, penalty=10)
    distance = 2 * (REAL.mean() - FAKE.mean())
    slope = 2 / 256**0.5
    torch.testing.assert_close(losses["distance"], distance)
    torch.testing.assert_close(losses["loss"], 10 * torch.tensor((slope - 1) ** 2) - distance)


def test_no_gradient_leaves_the_critics_loss() -> None:
    critic, fake = ImageCritic(16), FAKE.clone().requires_grad_()
    critic_loss(critic, REAL, fake, penalty=1)["loss"].backward()
    assert fake.grad is None
    assert all(parameter.grad is not None for parameter in critic.parameters())


def test_critics_judge_each_sample_by_itself() -> None:
    with seeded(0):
        image, latent = ImageCritic(16), LatentCritic(7, (5, 3))
    z = torch.rand(4, 7, generator=torch.Generator().manual_seed(2))
    for critic, x in ((image, REAL), (latent, z)):
        together = critic(x)
        assert together.shape == (4,)
        torch.testing.assert_close(together, torch.cat([critic(x[k : k + 1]) for k in range(4)]))


def test_the_image_critic_is_the_studys_encoder_and_a_linear_map() -> None:
    assert sum(p.numel() for p in ImageCritic(128).parameters()) == 666_752 + 129


def test_the_image_critic_sees_brightness() -> None:
    """The norms of the study's code would make a slice of twice the intensity look alike."""
    with seeded(0):
        critic = ImageCritic(64)
    x = healthy_slices(6, 64).image
    with torch.no_grad():
        value, brighter = critic(x), critic(2 * x)
    assert (brighter - value).abs().mean() > 2 * value.std()


def image_critic(side: int, dtype: torch.dtype = torch.float32) -> ImageCritic:
    with seeded(0):
        return ImageCritic(side).to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def penalty_and_gradients(judged: nn.Module, critic: Any, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """At the same points for every call."""
    with seeded(1):
        penalty = gradient_penalty(critic, real, 0.5 * real.flip(0))
    found = torch.autograd.grad(penalty, list(judged.parameters()), allow_unused=True)
    return penalty.detach(), torch.cat([one.flatten() for one in found if one is not None])


@pytest.mark.parametrize("side", [16, 32])
def test_the_slope_is_the_gradient(side: int) -> None:
    critic = image_critic(side, torch.float64)
    x = torch.rand(3, 1, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x).sum(), x)
    torch.testing.assert_close(critic.slope(x), gradient)


def test_the_penalty_has_the_gradient_of_a_second_derivative() -> None:
    """A critic that is not known to be one of images goes through autograd twice."""
    critic, real = image_critic(32), healthy_slices(4, 32).image
    weights = nn.ParameterList(p for name, p in critic.named_parameters() if name.endswith("weight"))
    wanted = penalty_and_gradients(weights, lambda x: critic(x), real)
    torch.testing.assert_close(penalty_and_gradients(weights, critic, real), wanted, rtol=1e-4, atol=1e-6)


def test_in_bfloat16_the_penaltys_gradient_is_within_one_percent() -> None:
    critic, real = image_critic(64), healthy_slices(8, 64).image
    wanted, exact = penalty_and_gradients(critic, critic, real)
    with torch.autocast("cpu", torch.bfloat16):
        penalty, found = penalty_and_gradients(critic, critic, real)
    torch.testing.assert_close(penalty, wanted, rtol=0.01, atol=0)
    assert 0 < (found - exact).norm() / exact.norm() < 0.01
