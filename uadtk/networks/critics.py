"""Critics of Wasserstein GANs, for images and for latent vectors, with gradient penalty.

Gulrajani et al., *Improved Training of Wasserstein GANs* (2017). The reference code of the comparative study takes the
norm of the gradient over one axis of the image, and for latent vectors evaluates it beyond the line between real and
fake; here the norm is over the whole sample, at points on that line.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uadtk.networks.dense import halvings
from uadtk.networks.unified import SLOPE, Encoder, glorot

LATENT_SLOPE = 0.2


class ImageCritic(nn.Module):
    """(B, 1, S, S) -> (B,): the study's encoder, and a 1x1 convolution averaged over positions.

    Without norms, as in the study's figure: the layer norms of its code, over the pixels of each channel, remove the
    brightness of an image, which generators and encoders then need not match.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.features = Encoder(halvings(side))
        self.judge = nn.Conv2d(self.features.channels, 1, 1).apply(glorot)

    def forward(self, x: Tensor) -> Tensor:
        value: Tensor = self.judge(self.features(x)).flatten(1).mean(1)
        return value

    def slope(self, x: Tensor) -> Tensor:
        """Gradient of each value with respect to its ``x``, (B, 1, S, S); differentiable in the weights.

        Around ``x`` the critic is linear, so this is a chain of transposed convolutions: autograd needs no second
        derivative, which is slow for convolutions and adds zeros of the LeakyReLUs.
        """
        outputs = []
        with torch.no_grad():
            for layer in self.features:
                x = layer(x)
                outputs.append(x)
        slope = (self.judge.weight / x[0, 0].numel()).expand_as(x).to(x)
        for layer, output in zip(reversed(self.features), reversed(outputs), strict=True):
            if isinstance(layer, nn.Conv2d):
                slope = F.conv_transpose2d(slope, layer.weight, stride=2, padding=2, output_padding=1)
            else:
                slope = torch.ops.aten.leaky_relu_backward(slope, output, SLOPE, True)
        return slope


class LatentCritic(nn.Sequential):
    """(B, latent) -> (B,): linear layers with LeakyReLU 0.2 between them."""

    def __init__(self, latent: int, widths: Sequence[int] = (50, 50)) -> None:
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise([latent, *widths]):
            layers += [nn.Linear(before, after), nn.LeakyReLU(LATENT_SLOPE)]
        super().__init__(*layers, nn.Linear(widths[-1], 1), nn.Flatten(0))
        self.apply(glorot)


def critic_loss(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, penalty: float) -> dict[str, Tensor]:
    """Loss of a critic: E[D(fake)] - E[D(real)] + ``penalty`` * gradient penalty. Both inputs are detached.

    ``distance`` is its estimate of the Wasserstein distance.
    """
    real, fake = real.detach(), fake.detach()
    distance = critic(real).float().mean() - critic(fake).float().mean()
    steepness = gradient_penalty(critic, real, fake)
    return {"loss": penalty * steepness - distance, "distance": distance.detach(), "penalty": steepness.detach()}


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """E[(|grad D|_2 - 1)^2] at points drawn uniformly between each real and its fake sample.

    That of an ``ImageCritic`` is computed with the precision of its other passes, of other critics in float32.
    """
    share = torch.rand(len(real), *[1] * (real.ndim - 1)).to(real.device)
    between = (real + share * (fake - real)).detach().float()
    gradient = critic.slope(between) if type(critic) is ImageCritic else _slope(critic, between)
    norm = (gradient.float().flatten(1).square().sum(1) + 1e-12).sqrt()  # the square root has no derivative at 0
    return (norm - 1).square().mean()


def _slope(critic: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False), torch.enable_grad():
        x = x.requires_grad_()
        (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return gradient
