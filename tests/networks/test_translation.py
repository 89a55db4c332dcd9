"""The CycleGAN's networks, its least squares, and the low-pass between its generators."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tests.constant import count
from uadtk.networks.norms import InstanceNorm
from uadtk.networks.seeded import seeded
from uadtk.networks.translation import Discriminator, Generator, ResidualBlock, deceit, low_pass, misjudgement

X = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))


def tuned(net: nn.Module) -> nn.Module:
    """With weights so large that what goes in makes a difference."""
    with seeded(1), torch.no_grad():
        for parameter in net.parameters():
            nn.init.normal_(parameter, 0.0, 0.3)
    return net


def wave(frequency: float) -> torch.Tensor:
    """cos(frequency * column) on 64 x 64."""
    return torch.cos(frequency * torch.arange(64.0)).expand(1, 1, 64, 64)


@pytest.mark.parametrize("blocks", [6, 9])
def test_parameters_of_the_generator(blocks: int) -> None:
    """One channel in and out; of its biases the last is left, those before norms do nothing."""
    ends, middle = 2 * 49 * 64 + 1, 2 * (9 * 64 * 128 + 9 * 128 * 256)
    assert count(Generator(64, blocks)) == ends + middle + blocks * 2 * 9 * 256**2


def test_parameters_of_the_discriminator() -> None:
    assert count(Discriminator(64)) == 16 * (64 + 64 * 128 + 128 * 256 + 256 * 512 + 512) + 64 + 1


def test_weights_start_small() -> None:
    for net in (Generator(64, 1), Discriminator(64)):
        for name, parameter in net.named_parameters():
            if name.endswith("bias"):
                assert not parameter.any()
            else:
                assert parameter.std().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("side", [32, 36])
def test_the_generator_keeps_the_size_and_treats_slices_by_themselves(side: int) -> None:
    net = tuned(Generator(4, 2))
    x = torch.rand(3, 1, side, side, generator=torch.Generator().manual_seed(2))
    out = net(x)
    assert out.shape == x.shape
    torch.testing.assert_close(out, torch.cat([net(x[k : k + 1]) for k in range(3)]), atol=1e-5, rtol=1e-5)


def test_the_generator_goes_down_to_a_quarter_and_four_times_the_width() -> None:
    seen = []
    net = Generator(4, 2)
    blocks = [module for module in net if isinstance(module, ResidualBlock)]
    for block in blocks:
        block.register_forward_hook(lambda module, given, out: seen.append(tuple(out.shape)))
    net(X)
    assert seen == [(2, 16, 8, 8)] * 2


def test_the_generators_output_may_be_anything() -> None:
    """No activation: the last bias adds to it, up and down."""
    net = tuned(Generator(4, 1))
    outputs = []
    for bias in (-5.0, 5.0):
        nn.init.constant_(net[-1].bias, bias)
        outputs.append(net(X))
    torch.testing.assert_close(outputs[1] - outputs[0], torch.full_like(X, 10.0))


def test_a_block_without_weights_is_the_identity() -> None:
    block = ResidualBlock(3)
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(block(x), x)


def test_what_a_block_adds_is_normed() -> None:
    block = tuned(ResidualBlock(3))
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    added = (block(x) - x).flatten(2)
    torch.testing.assert_close(added.mean(2), torch.zeros(2, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(added.std(2, correction=0), torch.ones(2, 3), atol=1e-3, rtol=0)


def test_the_border_of_a_slice_is_mirrored() -> None:
    """Of grey it makes grey."""
    net = tuned(Generator(4, 1))
    for channels, conv in ((1, net[0]), (4, net[-1])):
        made = conv(torch.full((1, channels, 16, 16), 0.7))
        torch.testing.assert_close(made, made[..., 8:9, 8:9].expand_as(made))
    grey = torch.full((1, 3, 8, 8), 0.7)
    torch.testing.assert_close(tuned(ResidualBlock(3))(grey), grey, atol=1e-3, rtol=0)


def test_the_discriminator_has_norms_and_the_slope_of_the_paper() -> None:
    """As its norms have it, contrast makes no difference where nothing is added to it."""
    net = tuned(Discriminator(4))
    nn.init.zeros_(net[0].bias)
    torch.testing.assert_close(net(3 * X), net(X), rtol=1e-3, atol=1e-3)
    assert {layer.negative_slope for layer in net if isinstance(layer, nn.LeakyReLU)} == {0.2}


def test_a_verdict_is_on_70_pixels() -> None:
    """Without norms, which see all of the slice, one verdict has a gradient in a square of 70 x 70."""
    net = nn.Sequential(*(layer for layer in tuned(Discriminator(2)) if not isinstance(layer, InstanceNorm)))
    x = torch.rand(1, 1, 128, 128, generator=torch.Generator().manual_seed(4)).requires_grad_()
    verdicts = net(x)
    assert verdicts.shape == (1, 1, 14, 14)
    (gradient,) = torch.autograd.grad(verdicts[0, 0, 7, 7], x)
    rows, columns = gradient[0, 0].nonzero().T
    assert rows.max() - rows.min() == columns.max() - columns.min() == 69


def test_the_discriminator_judges_slices_by_themselves() -> None:
    net = tuned(Discriminator(4))
    assert net(X).shape == (2, 1, 2, 2)
    torch.testing.assert_close(net(X), torch.cat([net(X[:1]), net(X[1:])]), atol=1e-5, rtol=1e-5)


def test_least_squares() -> None:
    real, fake = torch.tensor([1.0, 0.5]), torch.tensor([0.0, 0.25])
    torch.testing.assert_close(deceit(fake), torch.tensor((1 + 0.75**2) / 2))
    torch.testing.assert_close(misjudgement(real, fake), torch.tensor((0.5**2 + 0.25**2) / 4))
    assert deceit(torch.ones(3)) == misjudgement(torch.ones(3), torch.zeros(3)) == 0


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("frequency", [0.0, 0.4, 1.0])
def test_the_low_pass_is_a_gaussian(sigma: float, frequency: float) -> None:
    """Its transfer function is exp(-σ²ω²/2); rows and columns alike."""
    expected = math.exp(-0.5 * (sigma * frequency) ** 2) * wave(frequency)
    inner = slice(8, -8)
    for passed in (low_pass(wave(frequency), sigma), low_pass(wave(frequency).mT, sigma).mT):
        assert passed.shape == (1, 1, 64, 64)
        torch.testing.assert_close(passed[..., inner], expected[..., inner], atol=0.02, rtol=0)


def test_the_low_pass_takes_a_chequerboard_away_and_leaves_grey() -> None:
    board = 1 - 2.0 * ((torch.arange(32)[:, None] + torch.arange(32)) % 2)
    assert low_pass(board[None, None], 1.0).abs().max() < 1e-3
    torch.testing.assert_close(low_pass(torch.full((1, 1, 32, 32), 0.7), 2.0), torch.full((1, 1, 32, 32), 0.7))


def test_no_low_pass() -> None:
    assert torch.equal(low_pass(X, 0.0), X)


def test_the_low_pass_is_exact_where_the_rest_is_not() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        reduced = low_pass(X, 1.0)
    assert torch.equal(reduced, low_pass(X, 1.0))


def plain(net: nn.Module) -> nn.Module:
    """``net`` of torch's own layers; with the same weights."""
    for name, layer in net.named_children():
        if isinstance(layer, InstanceNorm):
            setattr(net, name, nn.InstanceNorm2d(layer.num_channels))
        elif isinstance(layer, nn.Conv2d) and layer.padding_mode == "reflect":
            size, own = layer.kernel_size[0], layer
            common = nn.Conv2d(
                own.in_channels,
                own.out_channels,
                size,
                padding=size // 2,
                padding_mode="reflect",
                bias=own.bias is not None,
            )
            common.to(own.weight).load_state_dict(own.state_dict())
            setattr(net, name, common)
        else:
            plain(layer)
    return net


@pytest.mark.parametrize("side", [32, 44])
def test_values_and_gradients_are_those_of_torchs_layers(side: int) -> None:
    x = torch.rand(2, 1, side, side, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    found = []
    for change in (lambda net: net.to(memory_format=torch.channels_last), plain):
        net = change(tuned(Generator(4, 2)).to(torch.float64))
        y = net(x)
        found.append([y, *torch.autograd.grad(y.square().mean(), list(net.parameters()))])
    torch.testing.assert_close(*found)
