from __future__ import annotations

import pytest
import torch

from uadtk.networks.dense import DenseAutoencoder, ZimmererAutoencoder, halvings
from uadtk.networks.seeded import seeded
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
