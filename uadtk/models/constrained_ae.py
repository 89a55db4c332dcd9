"""Constrained autoencoder: image and reconstruction are mapped to the same latent.

Chen, Konukoglu: *Unsupervised Detection of Lesions in Brain MRI using constrained adversarial auto-encoders* (2018),
without the adversary, as in Baur et al. 2021 (arXiv 2004.03271): x̂ passes through the encoder again, and the result is
pulled towards z. Gradients flow through both passes.

``loss=l1`` follows the study's text: Σ|x − x̂| + weight · Σ(z(x̂) − z)². ``loss=l2`` follows its code: means of squares
in place of both sums, with ``weight=1``. Beside a sum over the pixels a weight of 1 does nothing; 30 reduces the
distance eightfold on the phantom's slices and leaves the error as it is, in part by a smaller scale of z, which nothing
holds. The code has dropout on each z, whose noise would then be nine tenths of the distance: here it is in samples
only, as in ``ae``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from uadtk.networks.dense import DenseAutoencoder, dropout_samples, rebuild
from uadtk.networks.distances import l1, l2
from uadtk.plugin import Batch, option


@dataclass(frozen=True)
class Options:
    latent: int = option(128, "Dimension of z.", ge=1, le=4096)
    dropout: float = option(0.2, "Dropout rate of z in samples.", ge=0, le=0.9)
    loss: Literal["l1", "l2"] = option("l1", "Reconstruction error: summed l1 (paper) or mean squared error (code).")
    weight: float = option(30.0, "Weight of the distance between the two latents.", ge=0)


class Model(nn.Module):
    Options = Options

    def __init__(self, options: Options, side: int) -> None:
        super().__init__()
        self.options = options
        self.net = DenseAutoencoder(side, options.latent)
        self.lacks = () if options.dropout else ("sample",)

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        reconstruction, latent = self._distances(batch.image, batch.target, batch.normal)
        loss = reconstruction + self.options.weight * latent
        return {"loss": loss.mean(), "reconstruction": reconstruction.mean(), "latent": latent.mean()}

    def reconstruct(self, x: Tensor) -> Tensor:
        return rebuild(self.net, x)

    def sample(self, x: Tensor, n: int) -> Tensor:
        return dropout_samples(self.net, x, n, self.options.dropout)

    def objective(self, x: Tensor) -> Tensor:
        """The training loss of each slice."""
        reconstruction, latent = self._distances(x, x)
        return reconstruction + self.options.weight * latent

    def _distances(self, x: Tensor, target: Tensor, normal: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Distance of the reconstruction from ``target``, and of its latent from that of ``x``; both (B,)."""
        (z,) = self.net.encode(x)
        rebuilt = self.net.decode(z)
        (again,) = self.net.encode(rebuilt)
        latent = (again - z).square()
        if self.options.loss == "l1":
            return l1(target, rebuilt, normal), latent.sum(1)
        return l2(target, rebuilt, normal) / x[0].numel(), latent.mean(1)
