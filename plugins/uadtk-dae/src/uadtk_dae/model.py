"""Denoising autoencoder: a U-Net that takes coarse noise away.

Kascenas, Pugeault, O'Neil: *Denoising Autoencoders for Unsupervised Anomaly Detection in Brain MRI* (MIDL 2022). No
bottleneck holds detail back; the network learns that blobs of wrong intensity do not belong, and a lesion is one. Noise
is drawn at 16 x 16, enlarged and added inside the brain, and the loss is the squared error there.

Of the network this is known: four resolutions, 64 channels at full size, group norm, SiLU. Inferred: two convolutions
per resolution, eight groups, bilinear enlargement, maximum pooling. Here the error is summed over a slice instead of
averaged, which Adam does not see. The authors train with AMSGrad, which uadtk has not, at a learning rate of 1e-4 that
falls along a cosine, in batches of 16, and divide intensities by another percentile than uadtk's.

``corruption=implants`` (ours) shows slices with implanted lesions in place of noise: the same network then learns to
take lesions away, and is judged by kinds of implants it never saw (``uadtk.networks.corruption``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from uadtk.api import Batch, option
from uadtk.networks.corruption import corrupt
from uadtk.networks.distances import l2
from uadtk.networks.unet import UNet

DEPTH = 4


@dataclass(frozen=True)
class Options:
    width: int = option(64, "Channels at full size; twice as many at each of three halvings.", ge=1, le=256)
    noise: float = option(0.2, "Standard deviation of the noise before it is enlarged.", ge=0, le=2)
    corruption: Literal["noise", "implants"] = option(
        "noise", "What it learns to take away: noise, or implanted lesions."
    )


class Model(nn.Module):
    Options = Options
    betas = (0.9, 0.999)
    quick: ClassVar = {"width": 8}

    def __init__(self, options: Options, side: int) -> None:
        super().__init__()
        self.options = options
        self.net = UNet(side, depth=DEPTH, width=options.width)

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Corrupted on held-out slices too: without, a network that changes nothing would be the best."""
        seen, batch = corrupt(batch, self.options.corruption, self.options.noise, self.training)
        return {"loss": l2(batch.image, self.net(seen), batch.brain & batch.normal).mean()}

    def reconstruct(self, x: Tensor) -> Tensor:
        """Outside the brain it is anything: nothing was learned there."""
        image: Tensor = self.net(x)
        return image

    def objective(self, x: Tensor) -> Tensor:
        """Σ(x − x̂)² per slice over the brain, which is where x is not 0."""
        return l2(x, self.net(x), x != 0)
