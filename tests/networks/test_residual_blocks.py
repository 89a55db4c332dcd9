from __future__ import annotations

import pytest
import torch
from torch import nn

from uadtk.networks.norms import GroupNorm
from uadtk.networks.residual_blocks import CHANNELS, ResidualAutoencoder, ResidualBlock
from uadtk.networks.seeded import seeded
from uadtk.networks.unified import glorot
from uadtk.plugin import UsageError


def block(before: int, after: int) -> ResidualBlock:
    with seeded(0):
        return ResidualBlock(before, after).apply(glorot)


X = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_a_block_adds_to_what_came_in() -> None:
    same, wider = block(3, 3), block(3, 5)
    for convolution in (same.residual[-1], wider.residual[-1]):
        nn.init.zeros_(convolution.weight)
    assert torch.equal(same(X), X)
    torch.testing.assert_close(wider(X), wider.shortcut(X))
    assert wider(X).shape == (2, 5, 4, 4)


def test_a_block_norms_and_activates_before_it_convolves() -> None:
    """With a first convolution that passes its input on, the second sees it normed and bent twice, at slope 0.2."""
    same = block(3, 3)
    for layer in (same.residual[2], same.residual[5]):
        nn.init.dirac_(layer.weight)

    def ready(x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(1)
        normed = (flat - flat.mean(1, keepdim=True)) / flat.std(1, correction=0, keepdim=True)
        return torch.where(normed > 0, normed, 0.2 * normed).view_as(x)

    torch.testing.assert_close(same(X), X + ready(ready(X)), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("side", [16, 48])
def test_a_vector_and_back_to_an_image(side: int) -> None:
    with seeded(0):
        net, x = ResidualAutoencoder(side, 3).train(), torch.rand(2, 1, side, side)
    (z,) = net.encode(x)
    assert z.shape == (2, 3)
    image = net.decode(z)
    assert image.shape == x.shape
    image.sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    torch.testing.assert_close(
        image[:1], net.decode(net.encode(x[:1])[0])
    )  # no statistics of the batch, in training too


def test_channels_double_from_sixteen_at_each_of_four_halvings() -> None:
    net = ResidualAutoencoder(32, 3)
    shapes = []
    for layer in net.encoder:
        layer.register_forward_hook(lambda layer, _, out: shapes.append(tuple(out.shape[1:])))
    net.encode(torch.zeros(1, 1, 32, 32))
    assert CHANNELS == (16, 32, 64, 128, 256)
    assert shapes[0] == (16, 32, 32)
    assert shapes[2:9:2] == [(32, 16, 16), (64, 8, 8), (128, 4, 4), (256, 2, 2)]
    assert [type(layer) for layer in net.encoder[-4:]] == [GroupNorm, nn.LeakyReLU, nn.Flatten, nn.Linear]
    assert shapes[-1] == (3,)


@pytest.mark.parametrize("side", [8, 40])
def test_sides_that_cannot_be_halved_four_times_are_refused(side: int) -> None:
    with pytest.raises(UsageError, match=f"slices of {side} pixels"):
        ResidualAutoencoder(side, 3)
