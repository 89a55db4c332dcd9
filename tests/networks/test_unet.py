from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from tests.constant import count
from uadtk.networks.seeded import seeded
from uadtk.networks.unet import UNet, group_norm
from uadtk.plugin import UsageError
from uadtk.testing.specimens import healthy_slices


def unet(side: int = 16, **sizes: Any) -> UNet:
    with seeded(0):
        return UNet(side, **{"depth": 3, "width": 4, **sizes}).eval()


def image(side: int = 16, channels: int = 1) -> torch.Tensor:
    return torch.rand(2, channels, side, side, generator=torch.Generator().manual_seed(1))


def shapes_of(modules: nn.ModuleList, net: UNet, x: torch.Tensor) -> list[tuple[int, ...]]:
    shapes: list[tuple[int, ...]] = []
    hooks = [m.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape[1:]))) for m in modules]
    net(x)
    for hook in hooks:
        hook.remove()
    return shapes


def test_each_resolution_has_half_the_side_and_twice_the_channels() -> None:
    net, x = unet(depth=4), image()
    falling = [(4, 16, 16), (8, 8, 8), (16, 4, 4), (32, 2, 2)]
    assert shapes_of(net.down[:-1], net, x) == falling[:-1]
    assert [tuple(level.shape[1:]) for level in net.levels(x)] == [*falling[::-1], (1, 16, 16)]
    assert torch.equal(net.levels(x)[-1], net(x))


def test_levels_are_what_norm_activation_and_the_last_convolution_see() -> None:
    net, x = unet(), image()
    *_, last, out = net.levels(x)
    _, _, _, _, norm, activation = net.up[-1]
    torch.testing.assert_close(net.out(activation(norm(last))), out)


def test_dropout_is_at_the_lowest_resolution_and_in_training_alone() -> None:
    net, x = unet(dropout=0.5), image()
    assert torch.equal(net(x), unet()(x))
    net.train()
    first, second = net.levels(x), net.levels(x)
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[1], second[1])


def test_channels_in_and_out() -> None:
    assert unet(before=3, after=2)(image(channels=3)).shape == (2, 2, 16, 16)
    assert unet(depth=1)(image(7)[..., :7, :7]).shape == (2, 1, 7, 7)


def test_parameters() -> None:
    """Two 3x3 convolutions and their norms per block, a 1x1 convolution per doubling and at the end."""

    def block(before: int, after: int) -> int:
        return 9 * before * after + after + 9 * after * after + after + 2 * 2 * after

    down = block(1, 4) + block(4, 8) + block(8, 16)
    up = (16 * 8 + 8) + block(16, 8) + (8 * 4 + 4) + block(8, 4)
    assert count(unet()) == down + up + (4 + 1)


@torch.no_grad()
def ignore_skip(block: nn.Sequential) -> None:
    """What is skipped comes first."""
    block[0].weight[:, : block[0].in_channels // 2] = 0


@pytest.mark.parametrize("kept", [0, 1])
def test_each_skip_alone_lets_the_image_through(kept: int) -> None:
    net = unet()
    nn.init.zeros_(net.narrow[0].weight)  # nothing comes up from the bottom
    ignore_skip(net.up[1 - kept])
    assert (net(image()) - net(image().flip(-1))).abs().max() > 1e-3
    ignore_skip(net.up[kept])
    torch.testing.assert_close(net(image()), net(image().flip(-1)))


def test_the_bottom_alone_lets_the_image_through() -> None:
    net = unet()
    for block in net.up:
        ignore_skip(block)
    assert (net(image()) - net(image().flip(-1))).abs().max() > 1e-3


def test_narrowing_before_doubling_is_narrowing_after_it() -> None:
    """Interpolation and a 1x1 convolution commute, bias and all; before, it costs a quarter."""
    narrow, doubling = unet().narrow[0], nn.Upsample(scale_factor=2, mode="bilinear")
    x = torch.rand(1, 16, 4, 4, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(doubling(narrow(x)), narrow(doubling(x)))


def test_slices_do_not_depend_on_each_other_in_training_either() -> None:
    net, x = unet().train(), image()
    torch.testing.assert_close(net(x)[:1], net(x[:1]))


def test_the_norm_is_a_choice() -> None:
    kinds = {nn.GroupNorm: {}, nn.BatchNorm2d: {"norm": nn.BatchNorm2d}, nn.Identity: {"norm": nn.Identity}}
    for kind, choice in kinds.items():
        net = unet(**choice)
        assert sum(isinstance(m, kind) for m in net.modules()) == 2 * 5  # after each convolution of each block
        net(image()).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_values_do_not_depend_on_the_order_in_memory() -> None:
    """torch's own group norm is off by 2e-3 here."""
    net, x = unet(128, width=8), healthy_slices(2, 128).image
    exact = copy.deepcopy(net).double()(x.double())
    for order in (torch.contiguous_format, torch.channels_last):
        net.to(memory_format=order)
        torch.testing.assert_close(net(x.contiguous(memory_format=order)).double(), exact, rtol=0, atol=2e-5)


def test_groups_divide_the_channels() -> None:
    assert [group_norm(c).num_groups for c in (64, 8, 12, 6, 5)] == [8, 8, 4, 2, 1]


@pytest.mark.parametrize(("side", "depth"), [(100, 4), (12, 4), (17, 2)])
def test_sides_that_cannot_be_halved_so_often_are_refused(side: int, depth: int) -> None:
    with pytest.raises(UsageError, match=f"slices of {side} pixels cannot be halved {depth - 1} times"):
        UNet(side, depth=depth)
