"""Unified decoder with skip connections from the unified encoder."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uadtk.networks.unified import GROWTH, SLOPE, Encoder, Transposed, glorot, widths


def stage_outputs(encoder: Encoder, x: Tensor) -> list[Tensor]:
    """Output of each encoder stage, from large to small; the last is the encoder's output."""
    outputs = []
    for layer in encoder:
        x = layer(x)
        if isinstance(layer, nn.LeakyReLU):
            outputs.append(x)
    return outputs


class SkipDecoder(nn.Module):
    """Outputs of the encoder's stages -> (B, 1, S, S). All but the last are concatenated at their size."""

    def __init__(self, n: int, width: int = 32) -> None:
        super().__init__()
        below, *skips = reversed(widths(n, width))
        self.up = nn.ModuleList()
        for i, skip in enumerate([*skips, 0]):
            after = max(width, GROWTH * width // 2**i)
            self.up.append(Transposed(below, after, 5, stride=2, padding=2, output_padding=1))
            below = after + skip
        self.out = nn.Conv2d(below, 1, 1)
        self.apply(glorot)

    def forward(self, outputs: list[Tensor], on_skip: Callable[[Tensor], Tensor]) -> Tensor:
        """``on_skip`` transforms each skip connection."""
        deepest, *skips = reversed(outputs)
        image = F.relu(deepest)
        for i, up in enumerate(self.up):
            image = F.leaky_relu(up(image), SLOPE)
            if i < len(skips):
                image = torch.cat([image, on_skip(skips[i])], dim=1)
        rebuilt: Tensor = self.out(image)
        return rebuilt
