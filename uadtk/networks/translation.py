"""Components of the CycleGAN: a generator that translates images, a patch discriminator, and least-squares losses.

Zhu, Park, Isola, Efros: *Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks* (2017).
Biases before an instance norm are omitted, as the norm removes them. The generator has no output activation in place of
their tanh, since intensities here have no upper bound.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uadtk.networks.norms import InstanceNorm

SLOPE = 0.2
CELL = 4


class Generator(nn.Sequential):
    """(B, 1, S, S) -> (B, 1, S, S): two halvings, ``blocks`` residual blocks of ``4 * width`` channels, and back."""

    def __init__(self, width: int = 64, blocks: int = 6) -> None:
        deep = 4 * width
        super().__init__(
            *_activated(_Same(1, width, 7)),
            *_activated(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False)),
            *_activated(nn.Conv2d(2 * width, deep, 3, stride=2, padding=1, bias=False)),
            *(ResidualBlock(deep) for _ in range(blocks)),
            *_activated(_doubling(deep, 2 * width)),
            *_activated(_doubling(2 * width, width)),
            _Blend(width, 7),
        )
        self.apply(_small)


class ResidualBlock(nn.Module):
    """(B, C, S, S) -> (B, C, S, S): x + norm(conv(relu(norm(conv(x)))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        last = [_Same(channels, channels, 3), InstanceNorm(channels)]
        self.residual = nn.Sequential(*_activated(_Same(channels, channels, 3)), *last)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.residual(x)
        return out


class Discriminator(nn.Sequential):
    """(B, 1, S, S) -> (B, 1, S/8 - 2, S/8 - 2): near 1 where a patch of 70x70 pixels looks real, near 0 elsewhere."""

    def __init__(self, width: int = 64) -> None:
        layers: list[nn.Module] = [nn.Conv2d(1, width, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
        for times, stride in ((1, 2), (2, 2), (4, 1)):
            before, after = times * width, 2 * times * width
            layers += [
                nn.Conv2d(before, after, 4, stride=stride, padding=1, bias=False),
                InstanceNorm(after),
                nn.LeakyReLU(SLOPE),
            ]
        super().__init__(*layers, nn.Conv2d(8 * width, 1, 4, padding=1))
        self.apply(_small)


def deceit(judged: Tensor) -> Tensor:
    """Loss of a generator: mean (D(fake) - 1)², for discriminator outputs of any shape."""
    return (judged.float() - 1).square().mean()


def misjudgement(real: Tensor, fake: Tensor) -> Tensor:
    """Loss of a discriminator: half of mean (D(real) - 1)² + mean D(fake)²."""
    return 0.5 * (deceit(real) + fake.float().square().mean())


def low_pass(image: Tensor, sigma: float) -> Tensor:
    """``image`` (B, 1, S, S) blurred by a Gaussian of ``sigma`` pixels, in float32; unchanged for 0."""
    if not sigma:
        return image
    radius = math.ceil(3 * sigma)
    line = torch.exp(-0.5 * (torch.arange(-radius, radius + 1.0, device=image.device) / sigma).square())
    line = line / line.sum()
    with torch.autocast(image.device.type, enabled=False):
        padded = F.pad(image.float(), [radius] * 4, mode="reflect")
        return F.conv2d(F.conv2d(padded, line.view(1, 1, 1, -1)), line.view(1, 1, -1, 1))


def _activated(conv: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
    return [conv, InstanceNorm(conv.out_channels), nn.ReLU()]


class _Same(nn.Conv2d):
    """A convolution without bias that continues the image beyond its edges by reflection."""

    def __init__(self, before: int, after: int, size: int, bias: bool = False) -> None:
        super().__init__(before, after, size, padding=size // 2, padding_mode="reflect", bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self._padded(x), self.weight)

    def _padded(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # it would convert to float32 and back
            return F.pad(x, [self.kernel_size[0] // 2] * 4, mode="reflect")


class _Blend(_Same):
    """The same to one channel, with a bias; the size must be a multiple of 4.

    On a CPU one channel takes as long as 16: here these are the 4x4 pixels of a cell.
    """

    def __init__(self, before: int, size: int) -> None:
        super().__init__(before, 1, size, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        moves = itertools.product(range(CELL), repeat=2)
        weight = torch.cat([F.pad(self.weight, (j, CELL - 1 - j, i, CELL - 1 - i)) for i, j in moves])
        cells = F.conv2d(self._padded(x), weight, self.bias.expand(CELL**2), stride=CELL)  # type: ignore[union-attr]
        return F.pixel_shuffle(cells, CELL)


def _doubling(before: int, after: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1, bias=False)


def _small(module: nn.Module) -> None:
    """Weights from N(0, 0.02²) and zero biases, for ``Module.apply``."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
