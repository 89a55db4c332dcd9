"""Adaptation: the discriminator learns to tell, what is below it learns the opposite."""

from __future__ import annotations

import math

import pytest
import torch

from uadtk.networks.domain import Discriminator, domain_loss, ramp, reverse
from uadtk.networks.seeded import seeded

SOURCE = torch.tensor([True, True, False, False])


def levels() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(4, n, side, side, generator=generator).requires_grad_() for n, side in ((8, 2), (4, 8), (2, 16))
    ]


def discriminator() -> Discriminator:
    with seeded(0):
        return Discriminator([8, 4, 2])


def test_the_gradient_is_turned_around_and_weighed() -> None:
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    assert torch.equal(reverse(x, 0.5), x)
    (gradient,) = torch.autograd.grad((3 * reverse(x, 0.5)).sum(), x)
    assert gradient.tolist() == [-1.5, -1.5]


def test_features_go_against_the_discriminator_which_goes_its_own_way() -> None:
    judge, seen = discriminator(), levels()
    plain = torch.nn.functional.binary_cross_entropy_with_logits(judge(seen), SOURCE.float())
    ours = domain_loss(judge, seen, SOURCE, 0.25)
    torch.testing.assert_close(ours, plain)
    weights = list(judge.parameters())
    down = torch.autograd.grad(plain, [*weights, *seen], retain_graph=True)
    turned = torch.autograd.grad(ours, [*weights, *seen])
    for index, (one, other) in enumerate(zip(down, turned, strict=True)):
        assert one.any()
        torch.testing.assert_close(other, one if index < len(weights) else -0.25 * one)


def test_without_strength_features_do_not_learn() -> None:
    seen = levels()
    for gradient in torch.autograd.grad(domain_loss(discriminator(), seen, SOURCE, 0.0), seen):
        assert not gradient.any()


def test_every_level_counts() -> None:
    judge, seen = discriminator(), levels()
    for k in range(len(seen)):
        other = [x + 1 if i == k else x for i, x in enumerate(seen)]
        assert not torch.allclose(judge(other), judge(seen))


def test_a_discriminator_that_does_not_know_costs_ln_2() -> None:
    judge = discriminator()
    torch.nn.init.zeros_(judge.judge[-1].weight)
    torch.nn.init.zeros_(judge.judge[-1].bias)
    assert float(domain_loss(judge, levels(), SOURCE, 1.0).detach()) == pytest.approx(math.log(2))


def test_it_learns_to_tell_two_domains() -> None:
    judge, seen = discriminator(), [x.detach() + SOURCE.float()[:, None, None, None] for x in levels()]
    optimiser = torch.optim.Adam(judge.parameters(), lr=1e-2)
    for _ in range(30):
        optimiser.zero_grad()
        domain_loss(judge, seen, SOURCE, 1.0).backward()
        optimiser.step()
    assert torch.equal(judge(seen) > 0, SOURCE)


def test_the_weight_rises_along_a_line() -> None:
    assert [ramp(epoch, 10, 35) for epoch in (1, 10, 15, 35, 99)] == [0, 0, 0.2, 1, 1]
    assert [ramp(epoch, 3, 3) for epoch in (3, 4)] == [0, 1]
