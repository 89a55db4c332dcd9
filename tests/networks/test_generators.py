from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.constant import count
from uadtk.networks import generators
from uadtk.networks.generators import (
    ResidualCritic,
    ResidualEncoder,
    ResidualGenerator,
    UnifiedEncoder,
    UnifiedGenerator,
)
from uadtk.networks.seeded import seeded
from uadtk.networks.unified import glorot
from uadtk.plugin import UsageError

ENCODERS, GENERATORS = (UnifiedEncoder, ResidualEncoder), (UnifiedGenerator, ResidualGenerator)


def made(network: type[nn.Module], side: int, *numbers: int) -> nn.Module:
    with seeded(0):
        return network(side, *numbers).train()


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def test_the_unified_halves_are_the_studys_dense_autoencoder_and_the_generators_norms() -> None:
    norms = 2 * sum(side * side for side in (8, 16, 32, 64, 128))
    encoder, generator = count(UnifiedEncoder(128, 128)), count(UnifiedGenerator(128, 128))
    assert encoder == 666_752 + 128 * 16 + 16 + 1024 * 128 + 128
    assert encoder + generator == 1_625_777 + norms


@pytest.mark.parametrize("side", [32, 48])
@pytest.mark.parametrize("network", [*ENCODERS, *GENERATORS, ResidualCritic])
def test_shapes_and_samples_that_do_not_mix_in_training_either(network: type, side: int) -> None:
    net = made(network, side, *(() if network is ResidualCritic else (3,)))
    x, shape = (drawn(4, 3), (4, 1, side, side)) if network in GENERATORS else (drawn(4, 1, side, side), (4, 3))
    out = net(x)
    assert out.shape == ((4,) if network is ResidualCritic else shape)
    torch.testing.assert_close(out, torch.cat([net(x[k : k + 1]) for k in range(4)]), atol=1e-4, rtol=1e-4)
    gradients = torch.autograd.grad(out.square().sum(), list(net.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_the_unified_encoder_has_no_norm_and_the_generator_begins_with_one() -> None:
    """Without biases the one passes a scale on, the other takes it away."""
    encoder, generator = made(UnifiedEncoder, 32, 3), made(UnifiedGenerator, 32, 3)
    x, z = drawn(2, 1, 32, 32), 1000 * drawn(2, 3)
    torch.testing.assert_close(encoder(2 * x), 2 * encoder(x))
    torch.testing.assert_close(generator(2 * z), generator(z), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("side", "channels"), [(64, [64, 128, 256, 512, 512]), (128, [64, 128, 256, 512, 512, 512])])
def test_residual_channels_from_full_size_to_four_pixels_and_back(side: int, channels: list[int]) -> None:
    expected = [(c, side >> i, side >> i) for i, c in enumerate(channels)]
    assert expected[-1] == (512, 4, 4)
    with torch.device("meta"):
        critic, generator = ResidualCritic(side), ResidualGenerator(side, 3)
        down, up = shapes(critic.features, torch.zeros(1, 1, side, side)), shapes(generator, torch.zeros(1, 3))
    assert [down[0], *down[2::2]] == expected
    assert [up[1], *up[3 : 2 + 2 * len(channels) - 1 : 2]] == expected[::-1]


def shapes(layers: nn.Sequential, x: torch.Tensor) -> list[tuple[int, ...]]:
    """Of one sample, after each layer."""
    found = []
    for layer in layers:
        x = layer(x)
        found.append(tuple(x.shape[1:]))
    return found


def test_a_block_adds_what_is_normed_bent_and_convolved_twice() -> None:
    """With convolutions that pass their input on."""
    with seeded(0):
        block = generators._Block(3, 3, 3).apply(glorot)
    x = drawn(2, 3, 4, 4)
    for layer in (block.residual[2], block.residual[5]):
        nn.init.dirac_(layer.weight)

    def ready(x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(1)
        return ((flat - flat.mean(1, keepdim=True)) / flat.std(1, correction=0, keepdim=True)).relu().view_as(x)

    torch.testing.assert_close(block(x), block.shortcut(x) + ready(ready(x)), atol=1e-3, rtol=1e-3)


def test_a_critic_doubles_channels_before_it_pools_and_a_generator_halves_them_after_it_repeats_pixels() -> None:
    """In the second convolution of a block, and in the first."""
    with torch.device("meta"):
        features, generator = ResidualCritic(16).features, ResidualGenerator(16, 3)
    _, down, pool, *_ = features
    _, _, upsample, up, *_, norm, activation, last = generator
    assert [down.residual[i].out_channels for i in (2, 5)] == [64, 128]
    assert [up.residual[i].out_channels for i in (2, 5)] == [128, 128]
    assert up.residual[2].in_channels == 256
    assert (type(pool), upsample.mode) == (nn.AvgPool2d, "nearest")
    for layer, kind in ((norm, nn.GroupNorm), (activation, nn.ReLU), (last, nn.Conv2d)):
        assert isinstance(layer, kind)


def test_the_residual_critic_is_the_encoder_with_one_number() -> None:
    critic, encoder = made(ResidualCritic, 16), made(ResidualEncoder, 16, 1)
    encoder.load_state_dict(dict(zip(encoder.state_dict(), critic.state_dict().values(), strict=True)))
    x = drawn(3, 1, 16, 16)
    torch.testing.assert_close(critic(x), encoder(x)[:, 0])


@pytest.mark.parametrize("network", [*ENCODERS, *GENERATORS, ResidualCritic])
@pytest.mark.parametrize("side", [7, 100])
def test_sides_that_cannot_be_halved_are_refused(network: type, side: int) -> None:
    with pytest.raises(UsageError, match=f"slices of {side} pixels"):
        made(network, side, *(() if network is ResidualCritic else (3,)))
