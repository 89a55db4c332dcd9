"""Group norm in training: values and gradients of torch's, in channels-last format."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from uadtk.networks.norms import GroupNorm


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scores_are_computed_as_before(dtype: torch.dtype) -> None:
    ours, torchs = pair(16, 8, dtype)
    x = features(16, 32, dtype).detach()
    with torch.inference_mode():
        wanted = torchs(x) if dtype == torch.bfloat16 else torchs(x.contiguous())
        assert torch.equal(ours(x), wanted)
