"""U-Net (Ronneberger, Fischer, Brox 2015): an encoder and a decoder, connected at every resolution.

In its common modern form: convolutions are padded and followed by a norm and SiLU, and upsampling is bilinear.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uadtk.networks.norms import GroupNorm
from uadtk.networks.unified import require_halvings


def group_norm(channels: int) -> nn.Module:
    """With eight groups, or four, two or one where eight does not divide the channels."""
    return GroupNorm(math.gcd(8, channels), channels)


class UNet(nn.Module):
    """(B, before, S, S) -> (B, after, S, S), without output activation.

    Parameters
    ----------
    side
        S, which must be a multiple of 2^(depth - 1).
    depth
        Number of resolutions; each halves the side and doubles the channels of the one above.
    width
        Channels at full resolution.
    norm
        Makes the norm layer after each convolution, from its number of channels.
    dropout
        Dropout rate at the lowest resolution, in training.
    """

    def __init__(
        self,
        side: int,
        before: int = 1,
        after: int = 1,
        depth: int = 4,
        width: int = 64,
        norm: Callable[[int], nn.Module] = group_norm,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        require_halvings(side, depth - 1)
        channels = [width * 2**i for i in range(depth)]
        self.down = nn.ModuleList(_block(a, b, norm) for a, b in itertools.pairwise([before, *channels]))
        falling = list(itertools.pairwise(reversed(channels)))
        self.narrow = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in falling)
        self.up = nn.ModuleList(_block(2 * b, b, norm) for _, b in falling)
        self.out = nn.Conv2d(width, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.levels(x)[-1]

    def levels(self, x: Tensor) -> list[Tensor]:
        """Features of every resolution from the lowest up, and the output.

        Features (B, width * 2^i, S / 2^i, S / 2^i), i from depth - 1 down to 0, are those of the last convolution at
        that resolution, before its norm and activation.
        """
        skips = []
        for block in self.down[:-1]:  # type: ignore[union-attr]
            skips.append(block(x))
            x = F.max_pool2d(skips[-1], 2)
        bottom: nn.Sequential = self.down[-1]  # type: ignore[assignment]
        found = [bottom[:-2](x)]
        x = F.dropout(bottom[-2:](found[-1]), self.dropout, self.training)
        for narrow, block in zip(self.narrow, self.up, strict=True):
            doubled = F.interpolate(narrow(x), scale_factor=2, mode="bilinear", align_corners=False)
            found.append(block[:-2](torch.cat([skips.pop(), doubled], dim=1)))  # type: ignore[index]
            x = block[-2:](found[-1])  # type: ignore[index]
        return [*found, self.out(x)]


def _block(before: int, after: int, norm: Callable[[int], nn.Module]) -> nn.Sequential:
    """Two 3x3 convolutions."""
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [nn.Conv2d(channels, after, 3, padding=1), norm(after), nn.SiLU()]
    return nn.Sequential(*layers)
