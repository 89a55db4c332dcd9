"""Norms whose result for a slice does not depend on the rest of the batch, and which are fast on a CPU.

Activations are in channels-last format, of which torch's norms make a copy in the other format: in training, the layers
around them then take up to twenty times as long. Here the format stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGE = 1024  # pixels: below, torch's channels-last group norm does not use vector instructions
MANY = 16  # channels of a group: from here on, its gradient does
PARALLEL = 1 << 18  # numbers: fewer are not worth threads
PARTS = 16  # of a sum in bfloat16
VECTOR = 32  # bfloat16 numbers that a processor adds at once


class GroupNorm(nn.GroupNorm):
    """torch's group norm; in float32 on a CPU a compiled one, with sums in float64.

    In channels-last format on a CPU torch sums naively: at 128 pixels the result of a slice then varies, in the third
    digit, with the rest of the batch and the number of threads. In bfloat16 that is no more than its rounding error.
    """

    def forward(self, x: Tensor) -> Tensor:
        if _is_channels_last(x) and (torch.is_grad_enabled() or x.dtype == torch.float32):
            return _ChannelsLast.apply(x, self.weight, self.bias, self.num_groups, self.eps)  # type: ignore[no-any-return, no-untyped-call]
        if x.dtype == torch.bfloat16 and not torch.is_grad_enabled():
            return super().forward(x)
        return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)


class InstanceNorm(GroupNorm):
    """Each channel of each slice to mean 0 and variance 1."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, affine=False)


class PixelNorm(nn.LayerNorm):
    """Layer norm over the pixels of each channel, with a weight and a bias per pixel."""

    def __init__(self, side: int, eps: float = 1e-3) -> None:
        super().__init__([side, side], eps)

    def forward(self, x: Tensor) -> Tensor:
        if not _is_channels_last(x):
            return super().forward(x)
        normal: Tensor = _ChannelsLast.apply(x, None, None, x.shape[1], self.eps)  # type: ignore[no-untyped-call]
        weight, bias = (own.expand(len(x), 1, *own.shape).to(x.dtype) for own in (self.weight, self.bias))
        return normal * weight + bias


def _is_channels_last(x: Tensor) -> bool:
    known = x.dtype in (torch.bfloat16, torch.float32, torch.float64)
    four = x.ndim == 4 and x.numel() > 0
    return known and x.device.type == "cpu" and four and x.is_contiguous(memory_format=torch.channels_last)


class _ChannelsLast(torch.autograd.Function):
    """Group norm of (B, C, H, W) as pixels and channels: sums over pixels are sums of rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, groups: int, eps: float) -> Tensor:  # type: ignore[override]
        with torch.autocast("cpu", enabled=False):
            if x.dtype == torch.bfloat16:
                size = (len(x), x.shape[1], x[0, 0].numel())
                fast = x if size[2] >= LARGE else x.contiguous()
                y, middle, scale = torch.native_group_norm(fast, weight, bias, *size, groups, eps)
                y = y.contiguous(memory_format=torch.channels_last)
                middle, scale = (one.float().repeat_interleave(x.shape[1] // groups, 1) for one in (middle, scale))
            elif x.dtype == torch.float32:
                y, middle, scale = _compiled(x, weight, bias, groups, eps)
            else:
                y, middle, scale = _normalised(x, weight, bias, groups, eps)
        ctx.save_for_backward(x, weight, middle, scale)
        ctx.groups, ctx.eps = groups, eps
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, middle, scale = ctx.saved_tensors
        (gradient,) = gradients
        if torch.is_grad_enabled():  # the gradient of this gradient is wanted: torch knows it
            if weight is None:
                y = F.group_norm(x, ctx.groups, eps=ctx.eps)
                return *torch.autograd.grad(y, x, gradient, create_graph=True), None, None, None, None
            y = F.group_norm(x, ctx.groups, weight, torch.zeros_like(weight), ctx.eps)
            of_x, of_weight = torch.autograd.grad(y, (x, weight), gradient, create_graph=True)
            return of_x, of_weight, gradient.sum((0, 2, 3)), None, None
        if x.dtype == torch.bfloat16 and weight is not None and x.shape[1] // ctx.groups >= MANY:
            return *_torchs_gradients(gradient, x, weight, middle, scale, ctx.groups), None, None
        if x.dtype == torch.float32:
            of_x, of_weight, of_bias = _compiled_gradients(gradient, x, weight, middle, scale, ctx.groups)
            if weight is None:
                return of_x, None, None, None, None
            return of_x, of_weight.sum(0), of_bias.sum(0), None, None
        given, near = _rows(gradient), middle.to(x.dtype)
        off = _rows(x) - _row(near, given)  # of products with x itself bfloat16 keeps too few digits
        rest, result = middle - near, given * off
        of_bias = _total(given, x)
        of_weight = (_total(result, x) - of_bias * rest) * scale
        own = 1.0 if weight is None else weight
        mean, slope = (_over_groups(total * own, ctx.groups) / x[0, 0].numel() for total in (of_bias, of_weight))
        slope = slope * scale * scale
        torch.mul(off, _row(-slope, off), out=result)
        result.addcmul_(given, _row(scale * own, off)).add_(_row(slope * rest - scale * mean, off))
        if weight is None:
            return _image(result, x), None, None, None, None
        return _image(result, x), of_weight.sum(0).to(weight), of_bias.sum(0).to(weight), None, None


def _normalised(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The result, and mean and 1 / σ of each channel's group, (B, C)."""
    rows, pixels = _rows(x), x[0, 0].numel()
    middle = _over_groups(_total(rows, x) / pixels, groups)
    off = rows - _row(middle, rows)
    scale = (_over_groups(_total(off * off, x) / pixels, groups) + eps).rsqrt()
    off.mul_(_row(scale if weight is None else scale * weight, rows))
    if bias is not None:
        off.add_(_row(bias[None], rows))
    return _image(off, x), middle, scale


def _compiled(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The same as ``_normalised`` in float32, of a slice for itself, whatever the threads."""
    from uadtk.kernels._numba.norms import normalise

    rows, channels = _rows(x), x.shape[1]
    result = torch.empty_like(rows)
    middle, scale = (x.new_empty(len(x), channels) for _ in range(2))
    own = torch.ones(channels) if weight is None else weight
    shift = torch.zeros(channels) if bias is None else bias
    arrays = [tensor.detach().numpy() for tensor in (rows, result, own, shift, middle, scale)]
    _for_slices(normalise, x, *arrays[:4], groups, eps, *arrays[4:])
    return _image(result, x), middle, scale


def _compiled_gradients(
    gradient: Tensor, x: Tensor, weight: Tensor | None, middle: Tensor, scale: Tensor, groups: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Those of x and, slice by slice, of weight and bias."""
    from uadtk.kernels._numba.norms import gradients

    rows, given, channels = _rows(x), _rows(gradient), x.shape[1]
    result = torch.empty_like(rows)
    of_weight, of_bias = (x.new_empty(len(x), channels) for _ in range(2))
    own = torch.ones(channels) if weight is None else weight
    tensors = (rows, given, result, own, middle, scale, of_weight, of_bias)
    arrays = [tensor.detach().numpy() for tensor in tensors]
    _for_slices(gradients, x, *arrays[:4], groups, *arrays[4:])
    return _image(result, x), of_weight, of_bias


def _for_slices(work: Callable[..., None], x: Tensor, *given: Any) -> None:
    """``work`` on all slices of a batch, on as many threads as torch uses."""
    threads = min(torch.get_num_threads(), len(x))
    if threads == 1 or x.numel() < PARALLEL:
        work(*given, 0, len(x))
        return
    cuts = [len(x) * i // threads for i in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, *given, *cut) for cut in pairwise(cuts)]:
            done.result()


def _torchs_gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, middle: Tensor, scale: Tensor, groups: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Those of x, weight and bias."""
    first = slice(None, None, x.shape[1] // groups)  # of each group
    middle, scale = (one[:, first].to(weight.dtype).contiguous() for one in (middle, scale))
    like = gradient.contiguous(memory_format=torch.channels_last)
    size = (len(x), x.shape[1], x[0, 0].numel())
    return torch.ops.aten.native_group_norm_backward(like, x, middle, scale, weight, *size, groups, [True] * 3)  # type: ignore[no-any-return]


def _rows(x: Tensor) -> Tensor:
    """(B, pixels, C), or several pixels in a row: elementwise operations are slow on short rows."""
    channels, pixels = x.shape[1], x[0, 0].numel()
    times = math.gcd(max(1, VECTOR // channels), pixels)
    return x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1).reshape(len(x), -1, times * channels)


def _row(values: Tensor, rows: Tensor) -> Tensor:
    """(B, C) as one of ``rows``."""
    return values.to(rows.dtype).repeat(1, rows.shape[2] // values.shape[1])[:, None]


def _total(rows: Tensor, like: Tensor) -> Tensor:
    """Sums over the pixels, (B, C); those of bfloat16, which are rounded, in parts that are added up in float32."""
    if rows.dtype == torch.bfloat16:
        rows = rows.unflatten(1, (math.gcd(PARTS, rows.shape[1]), -1)).sum(2).float()
    return rows.sum(1).unflatten(1, (-1, like.shape[1])).sum(1)


def _image(rows: Tensor, like: Tensor) -> Tensor:
    return rows.view(len(like), *like.shape[2:], like.shape[1]).permute(0, 3, 1, 2)


def _over_groups(values: Tensor, groups: int) -> Tensor:
    """(B, C): each channel gets the mean of its group."""
    grouped = values.unflatten(1, (groups, -1))
    return grouped.mean(2, keepdim=True).expand_as(grouped).flatten(1)
