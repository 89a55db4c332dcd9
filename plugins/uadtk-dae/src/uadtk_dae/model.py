"""Denoising autoencoder: a U-Net that removes coarse noise.

Kascenas, Pugeault, O'Neil: *Denoising Autoencoders for Unsupervised Anomaly Detection in Brain MRI* (MIDL 2022). There
is no bottleneck; the network learns to remove blobs of abnormal intensity, of which a lesion is one. Noise is drawn at
16 x 16, upsampled and added inside the brain; the loss is the squared error there.

Known of the network: four resolutions, 64 channels at full size, group norm, SiLU. Inferred: two convolutions per
resolution, eight groups, bilinear upsampling, max pooling. Here the error is summed over a slice instead of averaged,
which makes no difference to Adam. The authors train with AMSGrad, which uadtk does not provide, at a learning rate of
1e-4 with cosine decay, in batches of 16, and divide intensities by another percentile than uadtk.

``corruption=implants`` goes beyond the paper: slices get implanted lesions instead of noise, so that the network learns
to remove lesions. Held-out slices get other kinds of implants than training slices (``uadtk.networks.corruption``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from uadtk.networks.corruption import Corruption, corrupt
from uadtk.networks.distances import l2
from uadtk.networks.unet import UNet
from uadtk.plugin import Batch, option

DEPTH = 4


@dataclass(frozen=True)
class Options:
    width: int = option(64, "Channels at full size, doubled at each of three halvings.", ge=1, le=256)
    noise: float = option(0.2, "Standard deviation of the noise before upsampling.", ge=0, le=2)
    corruption: Corruption = option("noise", "What the model learns to remove: noise, implanted lesions, or both.")


class Model(nn.Module):
    Options = Options
    betas = (0.9, 0.999)
    quick: ClassVar = {"width": 8}

    def __init__(self, options: Options, side: int) -> None:
        super().__init__()
        self.options = options
        self.net = UNet(side, depth=DEPTH, width=options.width)

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Held-out slices are corrupted too: otherwise the identity would have the lowest loss."""
        seen, batch = corrupt(batch, self.options.corruption, self.options.noise, self.training)
        return {"loss": l2(batch.image, self.net(seen), batch.brain & batch.normal).mean()}

    def reconstruct(self, x: Tensor) -> Tensor:
        """Undefined outside the brain, where the loss is not evaluated."""
        image: Tensor = self.net(x)
        return image

    def objective(self, x: Tensor) -> Tensor:
        """Σ(x − x̂)² per slice over the brain, where x is not 0."""
        return l2(x, self.net(x), x != 0)
