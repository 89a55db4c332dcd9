"""Critics and the gradient penalty."""

from __future__ import annotations

import pytest
import torch

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
