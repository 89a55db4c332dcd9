from __future__ import annotations

import pytest
import torch
from torch import nn

from uadtk.networks.dense import DenseAutoencoder, ZimmererAutoencoder, dropout_samples, halvings, rebuild
from uadtk.networks.seeded import seeded
from uadtk.networks.unified import Transposed
from uadtk.plugin import UsageError


def test_halvings_lead_to_eight_pixels_or_the_next_size_above() -> None:
    assert [halvings(side) for side in (16, 32, 64, 96, 128, 256)] == [1, 2, 3, 3, 4, 5]
    for side, least in ((8, 1), (16, 2), (100, 1)):
        with pytest.raises(UsageError, match=f"slices of {side} pixels"):
            halvings(side, least)


@pytest.mark.parametrize("side", [32, 96])
@pytest.mark.parametrize("network", [DenseAutoencoder, ZimmererAutoencoder])
def test_one_vector_per_head_and_back_to_an_image(network: type, side: int) -> None:
    with seeded(0):
        net = network(side, latent=3, heads=2)
        x = torch.rand(2, 1, side, side)
    heads = net.encode(x)
    assert [tuple(z.shape) for z in heads] == [(2, 3), (2, 3)]
    assert not torch.equal(*heads)
    assert net.decode(heads[0]).shape == x.shape


@pytest.mark.parametrize("network", [DenseAutoencoder, ZimmererAutoencoder])
def test_dropout_after_the_first_map_of_the_decoder(network: type) -> None:
    with seeded(0), torch.no_grad():
        net, z = network(32, latent=3), torch.rand(1, 3)
        net.eval()
        assert torch.equal(net.decode(z), net.decode(z))
        assert not torch.equal(net.decode(z, 0.5), net.decode(z, 0.5))
        for bias in (p for name, p in net.named_parameters() if name.endswith("bias")):
            bias.zero_()
        assert not net.decode(z, 1.0).any()
        assert net.decode(z).any()


def test_zimmerers_network_has_no_other_size() -> None:
    with pytest.raises(UsageError, match="slices of 40 pixels"):
        ZimmererAutoencoder(40, 3)


def test_reconstructions_with_and_without_dropout_on_z() -> None:
    class Net:
        def encode(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [x.flatten(1)]

        def decode(self, z: torch.Tensor) -> torch.Tensor:
            return z.unflatten(1, (1, 32, 32))

    x = 1 + torch.rand(2, 1, 32, 32)
    assert torch.equal(rebuild(Net(), x), x)
    with seeded(0):
        drawn = torch.stack([rebuild(Net(), x, 0.5) for _ in range(3)])
    assert torch.equal(drawn, torch.where(drawn == 0, 0.0, x / 0.5))
    assert 0.4 < (drawn == 0).float().mean() < 0.6
    with seeded(0):
        assert torch.equal(dropout_samples(Net(), x, 3, 0.5), drawn)


@pytest.mark.parametrize("shape", [(5, 2, 2, 1), (4, 2, 1, 0)])
def test_a_bias_that_is_added_by_itself_changes_no_value_and_no_gradient(shape: tuple[int, int, int, int]) -> None:
    size, stride, padding, beyond = shape
    x = torch.rand(2, 6, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(6)).requires_grad_()
    found = []
    for kind in (Transposed, nn.ConvTranspose2d):
        with seeded(0):
            up = kind(6, 3, size, stride, padding, beyond).to(torch.float64)
        y = up(x)
        with torch.no_grad():
            torch.testing.assert_close(up(x), y)
        found.append([y, *torch.autograd.grad(y.square().sum(), [x, *up.parameters()])])
    torch.testing.assert_close(*found)
