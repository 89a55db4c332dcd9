"""Spatial Gaussian mixture VAE: every position of the latent map has its own mixture as prior.

"GMVAE (spatial)" of Baur et al. 2021 (arXiv 2004.03271), after You et al., *Unsupervised lesion detection via image
restoration with a normative prior* (2019). z and w are maps, by default one number at each of 8 x 8 positions, and the
components' means and precisions follow from w through a layer of 64 ReLUs. Loss, inference and departures from the
authors' codes are those of ``gmvae``, with divergences summed over positions and ``c_lambda`` applied at each.

**Published rows are not comparable.** The study's code decodes from the encoder's features, not from z: it trains a
spatial autoencoder of 8 x 8 x 128 numbers, whose mixture affects restoration only. Here x̂ is decoded from z, which at
``dim_z=1`` is 64 numbers; increase it for finer reconstructions.

``network=you`` is the network of You et al. 2019, which does decode from z: six 3x3 convolutions of 64 channels with
ReLU, of which every third halves the size, so that z has 32 x 32 positions at 128 pixels. The decoder mirrors that with
nearest-neighbour upsampling; its number of convolutions is inferred. Theirs are unpadded, initialised from N(0, 0.01),
and model the variance of each pixel too; here they are padded, initialised like all networks in uadtk, and the
reconstruction error is Σ|x − x̂|. They use ``components=6,c_lambda=0.5``. Where z says nothing, as outside of the
brain, its noise is large, and this decoder knows nothing but noise: from the mean of z it makes 0.12 there in place of
0, from draws 0.005. Score it with ``montecarlo`` or ``restoration``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from uadtk.networks.dense import halvings
from uadtk.networks.distances import l1
from uadtk.networks.mixture import MixtureLatent, Responsibilities
from uadtk.networks.unified import Decoder, Encoder, glorot, require_halvings
from uadtk.plugin import Batch, option

WIDTH = 64  # channels of You et al., in their network and between w and the components


@dataclass(frozen=True)
class Options:
    components: int = option(9, "Components of the mixture.", ge=1, le=256)
    dim_z: int = option(1, "Channels of z.", ge=1, le=4096)
    dim_w: int = option(1, "Channels of w, which determines the mixture.", ge=1, le=4096)
    c_lambda: float = option(1.0, "Divergence of the component at a position, below which the loss is constant.", ge=0)
    responsibilities: Responsibilities = option(
        "correct", "From the Gaussian densities of the components, or as in the authors' codes."
    )
    network: Literal["unified", "you"] = option("unified", "Network of the study, or the shallower original.")


class Model(nn.Module):
    Options = Options

    def __init__(self, options: Options, side: int) -> None:
        super().__init__()
        self.options = options
        if options.network == "you":
            self.encoder, self.decoder, channels = *_you(options.dim_z, side), WIDTH
        else:
            n = halvings(side)
            self.encoder = Encoder(n)
            channels = self.encoder.channels
            self.decoder = nn.Sequential(nn.Conv2d(options.dim_z, channels, 1).apply(glorot), Decoder(n))
        self.latent = MixtureLatent(
            channels,
            options.dim_z,
            options.dim_w,
            options.components,
            options.c_lambda,
            options.responsibilities,
            hidden=WIDTH,
        )

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        """The loss and its four terms; w and z are drawn once."""
        z, terms = self.latent(self.encoder(batch.image), draw=True)
        terms = {"reconstruction": l1(batch.target, self.decoder(z), batch.normal), **terms}
        means = {name: term.mean() for name, term in terms.items()}
        return {"loss": torch.stack(list(means.values())).sum(), **means}

    def reconstruct(self, x: Tensor) -> Tensor:
        _, q_z = self.latent.encode(self.encoder(x))
        return self.decoder(q_z.mean)

    def sample(self, x: Tensor, n: int) -> Tensor:
        """Reconstructions from draws of z; x̂ does not depend on w."""
        _, q_z = self.latent.encode(self.encoder(x))
        return torch.stack([self.decoder(q_z.draw()) for _ in range(n)])

    def objective(self, x: Tensor) -> Tensor:
        """Loss of each slice at the means of w and z: the negative evidence lower bound, except for ``c_lambda``."""
        z, terms = self.latent(self.encoder(x), draw=False)
        return l1(x, self.decoder(z)) + torch.stack(list(terms.values())).sum(0)


def _you(dim_z: int, side: int) -> tuple[nn.Sequential, nn.Sequential]:
    """(B, 1, S, S) -> (B, 64, S/4, S/4), and (B, dim_z, S/4, S/4) -> (B, 1, S, S)."""
    require_halvings(side, 2)
    down: list[nn.Module] = []
    for before, stride in zip((1, *[WIDTH] * 5), (2, 1, 1, 2, 1, 1), strict=True):
        down += [nn.Conv2d(before, WIDTH, 3, stride, padding=1), nn.ReLU()]
    up: list[nn.Module] = []
    for i, (before, after) in enumerate(itertools.pairwise((dim_z, *[WIDTH] * 6))):
        up += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
        if i % 3 == 2:
            up.append(nn.Upsample(scale_factor=2))
    up.append(nn.Conv2d(WIDTH, 1, 3, padding=1))
    return nn.Sequential(*down).apply(glorot), nn.Sequential(*up).apply(glorot)
