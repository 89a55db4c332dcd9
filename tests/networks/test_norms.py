"""Norms: values and gradients of torch's, in channels-last format."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from uadtk.networks.norms import PARALLEL, GroupNorm, InstanceNorm, PixelNorm


def pair(channels: int, groups: int, dtype: torch.dtype = torch.float32) -> tuple[GroupNorm, nn.GroupNorm]:
    generator = torch.Generator().manual_seed(1)
    ours, torchs = GroupNorm(groups, channels).to(dtype), nn.GroupNorm(groups, channels).to(dtype)
    with torch.no_grad():
        for own, other in zip(ours.parameters(), torchs.parameters(), strict=True):
            other.copy_(own.copy_(torch.rand(channels, generator=generator) + 0.5))
    return ours, torchs


def features(channels: int, side: int = 12, dtype: torch.dtype = torch.float32) -> Tensor:
    drawn = torch.randn(3, channels, side, side + 1, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return (3 * drawn + 7).contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize(("channels", "groups"), [(16, 8), (12, 1), (6, 6), (64, 8)])
def test_values_and_gradients_are_those_of_torch(channels: int, groups: int) -> None:
    ours, torchs = pair(channels, groups)
    x = features(channels)
    wanted = features(channels).detach().contiguous().requires_grad_()
    y, reference = ours(x), torchs(wanted)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, reference, rtol=1e-5, atol=1e-5)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    (y * weights).sum().backward()
    (reference * weights).sum().backward()
    assert x.grad is not None
    assert x.grad.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(x.grad, wanted.grad, rtol=1e-4, atol=1e-5)
    for own, other in zip(ours.parameters(), torchs.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-4, atol=1e-3)


def test_gradients_are_right_to_the_second_order() -> None:
    """A gradient penalty differentiates a gradient."""
    ours, _ = pair(4, 2, torch.float64)
    x = features(4, 3, torch.float64)
    assert torch.autograd.gradcheck(ours, (x,))
    assert torch.autograd.gradgradcheck(ours, (x,))


def test_a_slice_does_not_depend_on_its_batch_with_a_gradient_either() -> None:
    ours, _ = pair(16, 8)
    x = features(16, 64)
    alone = ours(x[1:2].contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(alone, ours(x)[1:2], rtol=1e-6, atol=1e-6)


def test_scores_in_bfloat16_are_those_of_torch() -> None:
    ours, torchs = pair(16, 8, torch.bfloat16)
    x = features(16, 32, torch.bfloat16).detach()
    with torch.inference_mode():
        assert torch.equal(ours(x), torchs(x))


@pytest.mark.parametrize("mean", [0.0, 1000.0])
@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (6, 2), (16, 8), (48, 3)])
def test_scores_in_float32_are_as_exact_as_those_of_contiguous_memory(channels: int, groups: int, mean: float) -> None:
    """In channels-last format torch's own have no right digit where the mean is large."""
    ours, torchs = pair(channels, groups)
    x = features(channels, 96).detach() + mean
    exact = copy.deepcopy(torchs).double()(x.double().contiguous())
    with torch.inference_mode():
        found, wanted = ours(x), torchs(x.contiguous())
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert (found - exact).abs().max() < 2 * (wanted - exact).abs().max() + 1e-6


@pytest.mark.parametrize("grad", [False, True])
def test_no_slice_is_no_slice(grad: bool) -> None:
    ours, _ = pair(16, 8)
    with torch.set_grad_enabled(grad):
        assert ours(torch.zeros(0, 16, 8, 8).contiguous(memory_format=torch.channels_last)).shape == (0, 16, 8, 8)


@pytest.mark.parametrize("grad", [False, True])
def test_a_slice_is_the_same_to_the_bit_in_any_batch_and_on_any_threads(grad: bool) -> None:
    ours, _ = pair(16, 8)
    x = torch.randn(5, 16, 64, 64, generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=torch.channels_last)
    before = torch.get_num_threads()
    found = []
    try:
        for threads, first in ((1, 0), (3, 0), (2, 3)):
            torch.set_num_threads(threads)
            given = x[first:].clone(memory_format=torch.channels_last).requires_grad_(grad)
            with torch.set_grad_enabled(grad):
                y = ours(given)
            (of_x,) = torch.autograd.grad((y * y).sum(), given) if grad else (y,)
            found += [y[3 - first :].detach(), of_x[3 - first :].detach()]
    finally:
        torch.set_num_threads(before)
    assert x.numel() > PARALLEL
    for y, of_x in zip(found[2::2], found[3::2], strict=True):
        assert torch.equal(y, found[0])
        assert torch.equal(of_x, found[1])


def both(ours: nn.Module, torchs: nn.Module, channels: int, side: int, dtype: torch.dtype) -> tuple[list[Tensor], ...]:
    """Value, gradient of the input and gradients of the parameters: ours in ``dtype``, torch's in float32."""
    found = []
    for norm, one in ((ours, dtype), (torchs, torch.float32)):
        x = features(channels, side).detach().to(one).contiguous(memory_format=torch.channels_last).requires_grad_()
        y = norm(x if norm is ours else x.contiguous())
        weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(one)
        gradients = torch.autograd.grad(
            (y * weights.contiguous(memory_format=torch.channels_last)).sum(), [x, *norm.parameters()]
        )
        if norm is ours:
            assert all(t.is_contiguous(memory_format=torch.channels_last) for t in (y, gradients[0]))
            assert y.dtype == gradients[0].dtype == dtype
        found.append([y.detach(), *gradients])
    return tuple(found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("side", [9, 36])  # torch has two ways, for less than 1024 pixels and for more
@pytest.mark.parametrize("channels", [1, 6, 64])
def test_a_norm_per_channel(channels: int, side: int, dtype: torch.dtype) -> None:
    for own, other in zip(
        *both(InstanceNorm(channels), nn.InstanceNorm2d(channels), channels, side, dtype), strict=True
    ):
        assert (own - other).norm() / other.norm() < (0.01 if dtype == torch.bfloat16 else 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("channels", "groups"), [(16, 8), (12, 1), (64, 8), (32, 1), (64, 2)])
def test_in_bfloat16_the_format_and_two_digits_stay(channels: int, groups: int, dtype: torch.dtype) -> None:
    for own, other in zip(*both(*pair(channels, groups), channels, 48, dtype), strict=True):
        assert (own - other).norm() / other.norm() < (0.01 if dtype == torch.bfloat16 else 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_norm_with_a_weight_per_pixel(dtype: torch.dtype) -> None:
    ours, torchs = PixelNorm(20), nn.LayerNorm([20, 20], eps=1e-3)
    with torch.no_grad():
        for own, other in zip(ours.parameters(), torchs.parameters(), strict=True):
            other.copy_(own.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(3)))
    square = features(5, 20).detach()[..., :20].contiguous(memory_format=torch.channels_last)
    wanted = torchs(square.contiguous())
    found = ours(square.to(dtype))
    share = torch.autograd.grad(wanted.square().sum(), list(torchs.parameters()))
    own_share = torch.autograd.grad(found.float().square().sum(), list(ours.parameters()))
    for own, other in zip([found, *own_share], [wanted, *share], strict=True):
        assert (own - other).norm() / other.norm() < (0.01 if dtype == torch.bfloat16 else 1e-5)


def test_norms_without_weights_are_right_to_the_second_order() -> None:
    x = features(4, 3, torch.float64)
    assert torch.autograd.gradcheck(InstanceNorm(4), (x,))
    assert torch.autograd.gradgradcheck(InstanceNorm(4), (x,))
