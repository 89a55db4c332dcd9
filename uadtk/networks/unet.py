"""U-Net (Ronneberger, Fischer, Brox 2015): an encoder and a decoder that are connected at every resolution.

As is usual today: convolutions keep the size, each is followed by a norm and SiLU, and bilinear interpolation doubles.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uadtk.core.errors import UsageError
from uadtk.networks.norms import GroupNorm


def group_norm(channels: int) -> nn.Module:
    """In eight groups, or in four, two or one where eight do not divide the channels."""
    return GroupNorm(math.gcd(8, channels), channels)


class UNet(nn.Module):
    """(B, before, S, S) -> (B, after, S, S), no activation on what goes out.

    Parameters
    ----------
    side
        S, which must be a multiple of 2^(depth - 1).
    depth
        Resolutions, of which each has half the pixels along a side and twice the channels of the one above.
    width
        Channels at full resolution.
    norm
        From a number of channels to the layer after each convolution.
    """

    def __init__(
        self,
        side: int,
        before: int = 1,
        after: int = 1,
        depth: int = 4,
        width: int = 64,
        norm: Callable[[int], nn.Module] = group_norm,
    ) -> None:
        super().__init__()
        halved = depth - 1
        if side % 2**halved:
            raise UsageError(f"slices of {side} pixels cannot be halved {halved} times", fix="Take 128 or 256 pixels.")
        channels = [width * 2**i for i in range(depth)]
        self.down = nn.ModuleList(_block(a, b, norm) for a, b in itertools.pairwise([before, *channels]))
        falling = list(itertools.pairwise(reversed(channels)))
        self.narrow = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in falling)
        self.up = nn.ModuleList(_block(2 * b, b, norm) for _, b in falling)
        self.out = nn.Conv2d(width, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down[0](x)
        skips = []
        for block in self.down[1:]:
            skips.append(x)
            x = block(F.max_pool2d(x, 2))
        for narrow, block in zip(self.narrow, self.up, strict=True):
            doubled = F.interpolate(narrow(x), scale_factor=2, mode="bilinear", align_corners=False)
            x = block(torch.cat([skips.pop(), doubled], dim=1))
        image: Tensor = self.out(x)
        return image


def _block(before: int, after: int, norm: Callable[[int], nn.Module]) -> nn.Sequential:
    """Two 3x3 convolutions."""
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [nn.Conv2d(channels, after, 3, padding=1), norm(after), nn.SiLU()]
    return nn.Sequential(*layers)
