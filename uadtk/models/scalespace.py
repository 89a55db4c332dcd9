"""Scale-space autoencoder: one autoencoder per band of a Laplacian pyramid.

Baur, Wiestler, Albarqouni, Navab: *Scale-Space Autoencoders for Unsupervised Anomaly Segmentation in Brain MRI*
(MICCAI 2020, arXiv 2006.12852). The image is split into band-pass images and a low-pass residual. Each band has its own
(variational) autoencoder; all are trained jointly, and the reconstruction is built from coarse to fine.

The authors published no code. Known from the paper: three bands, no skip connections between them, the low-pass
residual passed through. Inferred here: the blur, the l1 loss with equal weights of the scales, encoder widths, and
downsampling to 8 x 8 in every band. Three options go beyond the paper: ``lowpass`` models the low-pass residual too, so
that a lesion larger than one of its pixels is not passed through; ``noise`` adds coarse noise to training slices
(Kascenas et al. 2022), which trains the model to remove anomalies; with ``corruption``, it learns to remove implanted
lesions instead, or both (``uadtk.networks.corruption``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uadtk.networks.corruption import Corruption, corrupt
from uadtk.networks.pyramid import Pyramid
from uadtk.networks.unified import Decoder, DenseLatent, Encoder, SpatialLatent, gaussian_kl, sampled, stages
from uadtk.plugin import Batch, UsageError, option

RESOLUTION = 8


@dataclass(frozen=True)
class Options:
    levels: int = option(3, "Bands of the pyramid.", ge=1, le=4)
    widths: tuple[int, ...] = option(
        (32,), "First encoder width per band, fine to coarse, or one for all.", ge=4, le=256
    )
    band: Literal["ae", "vae"] = option("ae", "Autoencoder of each band: plain or variational.")
    bottleneck: Literal["spatial", "dense"] = option("spatial", "Latent map or vector.")
    latent: int = option(128, "Latent numbers per band (dense) or channels at 8 x 8 (spatial).", ge=1, le=4096)
    lowpass: int = option(0, "Latent size of the low-pass residual; 0 passes it through (paper).", ge=0, le=4096)
    loss: Literal["l1", "l2"] = option("l1", "Reconstruction error.")
    kl_weight: float = option(1.0, "Weight of the KL divergence of VAE bands.", ge=0)
    noise: float = option(0.0, "Standard deviation of coarse noise on training slices; 0 is none (paper).", ge=0, le=2)
    corruption: Corruption = option("noise", "What the model learns to remove: noise, implanted lesions, or both.")
    sigma: float = option(1.0, "Blur of the pyramid: standard deviation in pixels.", ge=0.3, le=3)


class BandAutoencoder(nn.Module):
    """(B, 1, S, S) -> (B, 1, S, S), with the bottleneck at 8 x 8, or at 4 x 4 if S is 8."""

    def __init__(self, side: int, width: int, latent: int, dense: bool, variational: bool) -> None:
        super().__init__()
        resolution, heads = min(RESOLUTION, side // 2), 2 if variational else 1
        n = stages(side, resolution)
        self.encoder, self.decoder = Encoder(n, width), Decoder(n, width)
        channels = self.encoder.channels
        self.latent: DenseLatent | SpatialLatent = (
            DenseLatent(channels, resolution, latent, heads) if dense else SpatialLatent(channels, latent, heads)
        )
        self.variational = variational

    def forward(self, x: Tensor, draw: bool = False) -> tuple[Tensor, Tensor | None]:
        """Reconstruction, and the KL divergence (B,) if variational. z is drawn with ``draw``, else it is the mean."""
        heads = self.latent.encode(self.encoder(x))
        z = sampled(heads[0], heads[1]) if draw and self.variational else heads[0]
        kl = gaussian_kl(heads[0], heads[1]) if self.variational else None
        return self.decoder(self.latent.decode(z)), kl


class Model(nn.Module):
    Options = Options

    def __init__(self, options: Options, side: int) -> None:
        super().__init__()
        self.options = options
        if side >> options.levels < RESOLUTION:
            raise UsageError(f"{options.levels} levels reduce {side} pixels to less than {RESOLUTION} x {RESOLUTION}")
        if len(options.widths) not in (1, options.levels):
            raise UsageError(
                f"{len(options.widths)} widths for {options.levels} levels", "widths", "Give one, or one per level."
            )
        widths = options.widths if len(options.widths) > 1 else options.widths * options.levels
        self.pyramid = Pyramid(options.levels, options.sigma)
        variational = options.band == "vae"
        self.lacks = () if variational else ("sample",)
        self.bands = nn.ModuleList(
            BandAutoencoder(side >> k, width, options.latent, options.bottleneck == "dense", variational)
            for k, width in enumerate(widths)
        )
        self.rest = (
            BandAutoencoder(side >> options.levels, widths[-1], options.lowpass, True, variational)
            if options.lowpass
            else None
        )

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Mean pixel error of each scale times side², summed over scales; for VAE bands plus their KL divergences."""
        seen = batch.image
        if self.options.corruption != "noise" or (self.options.noise and self.training):
            seen, batch = corrupt(batch, self.options.corruption, self.options.noise, self.training)
            seen = seen.clamp(min=0)
        reconstruction, kl = (t.mean() for t in self._misfit(batch.image, seen, batch.normal, draw=self.training))
        losses = {"loss": reconstruction + self.options.kl_weight * kl, "reconstruction": reconstruction}
        return {**losses, "kl": kl} if self.options.band == "vae" else losses

    def objective(self, x: Tensor) -> Tensor:
        """The training loss of each image, without a mask and at the mean of z."""
        reconstruction, kl = self._misfit(x, x, torch.ones_like(x, dtype=torch.bool), draw=False)
        return reconstruction + self.options.kl_weight * kl

    def sample(self, x: Tensor, n: int) -> Tensor:
        """Reconstructions from draws of z, all n in one batch."""
        drawn: Tensor = self._rebuild(x.repeat(n, 1, 1, 1), draw=True)[0][0]
        return drawn.unflatten(0, (n, len(x)))

    def reconstruct(self, x: Tensor) -> Tensor:
        return self._rebuild(x, draw=False)[0][0]

    def _misfit(self, image: Tensor, seen: Tensor, normal: Tensor, draw: bool) -> tuple[Tensor, Tensor]:
        """Distance of each image from the reconstruction of ``seen``, and the KL divergence of all bands; both (B,)."""
        rebuilt, kls = self._rebuild(seen, draw)
        wanted = self.pyramid.scales(image)
        pixels = image.shape[-1] ** 2
        error = F.l1_loss if self.options.loss == "l1" else F.mse_loss
        reconstruction = image.new_zeros(len(image))
        weight = normal.to(image.dtype)
        for k in range(len(wanted) if self.rest is not None else self.options.levels):
            missed = error(rebuilt[k], wanted[k], reduction="none") * weight
            reconstruction = reconstruction + pixels * missed.flatten(1).mean(1)
            weight = -F.max_pool2d(-weight, 2)  # a coarse pixel is normal if all its pixels are
        return reconstruction, sum(kls, start=image.new_zeros(len(image)))

    def _rebuild(self, x: Tensor, draw: bool) -> tuple[list[Tensor], list[Tensor]]:
        """Î_0 (full size) to Î_levels, and the KL divergences of the bands."""
        scales = self.pyramid.scales(x)
        through = [model(band, draw) for model, band in zip(self.bands, self.pyramid.bands(scales), strict=True)]
        lowpass, kl = self.rest(scales[-1], draw) if self.rest is not None else (scales[-1], None)
        kls = [k for k in (*(k for _, k in through), kl) if k is not None]
        return self.pyramid.rebuild([band for band, _ in through], lowpass), kls
