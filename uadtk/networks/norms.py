"""Group norm whose result for a slice does not depend on the rest of the batch, and which is fast on a CPU."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GroupNorm(nn.GroupNorm):
    """torch's group norm; in float32 it is computed in contiguous memory format, in which it is exact.

    In channels-last format on a CPU torch sums naively: at 128 pixels the result of a slice then varies, in the third
    digit, with the rest of the batch and the number of threads. In bfloat16 that is no more than its rounding error,
    and changing the format would take as long as the convolutions, so it stays; with a gradient it is the slower way.
    Training in float32 on a CPU computes it in channels-last format by sums of one's own, with the same precision.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == torch.bfloat16 and not torch.is_grad_enabled():
            return super().forward(x)
        if torch.is_grad_enabled() and self.affine and _is_channels_last(x):
            return _ChannelsLast.apply(x, self.weight, self.bias, self.num_groups, self.eps)  # type: ignore[no-any-return, no-untyped-call]
        return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)


def _is_channels_last(x: Tensor) -> bool:
    wide = x.dtype in (torch.float32, torch.float64)
    return wide and x.device.type == "cpu" and x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)


class _ChannelsLast(torch.autograd.Function):
    """(B, C, H, W) as pixels and channels, (B, H * W, C): sums over pixels are sums of rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:  # type: ignore[override]
        rows = _rows(x)
        middle = _over_groups(rows.mean(1), groups)
        off = rows - middle[:, None]
        scale = (_over_groups((off * off).mean(1), groups) + eps).rsqrt()
        off.mul_((scale * weight)[:, None]).add_(bias)
        ctx.save_for_backward(x, weight, middle, scale)
        ctx.groups, ctx.eps = groups, eps
        return _image(off, x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, middle, scale = ctx.saved_tensors
        (gradient,) = gradients
        if torch.is_grad_enabled():  # the gradient of this gradient is wanted: torch knows it
            y = F.group_norm(x, ctx.groups, weight, torch.zeros_like(weight), ctx.eps)
            of_x, of_weight = torch.autograd.grad(y, (x, weight), gradient, create_graph=True)
            return of_x, of_weight, gradient.sum((0, 2, 3)), None, None
        rows, given = _rows(x), _rows(gradient)
        result = given * rows
        of_bias = given.sum(1)
        of_weight = (result.sum(1) - of_bias * middle) * scale
        pixels = rows.shape[1]
        mean, slope = (_over_groups(total * weight, ctx.groups) / pixels for total in (of_bias, of_weight))
        slope = slope * scale * scale
        torch.mul(rows, -slope[:, None], out=result)
        result.add_(given * (scale * weight)[:, None]).add_((slope * middle - scale * mean)[:, None])
        return _image(result, x), of_weight.sum(0), of_bias.sum(0), None, None


def _rows(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _image(rows: Tensor, like: Tensor) -> Tensor:
    return rows.unflatten(1, like.shape[2:]).permute(0, 3, 1, 2)


def _over_groups(values: Tensor, groups: int) -> Tensor:
    """(B, C): each channel gets the mean of its group."""
    grouped = values.unflatten(1, (groups, -1))
    return grouped.mean(2, keepdim=True).expand_as(grouped).flatten(1)
