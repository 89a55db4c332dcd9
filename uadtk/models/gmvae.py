"""Gaussian mixture VAE: the prior of the latent is a mixture of normal distributions.

"GMVAE (dense)" of Baur et al. 2021 (arXiv 2004.03271), after Dilokthanakul et al., *Deep Unsupervised Clustering with
Gaussian Mixture Variational Autoencoders* (2016), and You et al., *Unsupervised lesion detection via image restoration
with a normative prior* (2019). The prior of z has K components, whose means and precisions are linear in a second
latent w; x̂ depends on z only. The loss is Σ|x − x̂| plus three divergences from priors, all summed per slice: of z from
the components, weighted by their responsibilities; of w from N(0, 1); and of the component from uniform, clamped from
below at ``c_lambda`` (Dilokthanakul's minimum information, against all components collapsing into one).

The authors' codes have the wrong sign of the log precision in the responsibilities: ``responsibilities=legacy``. They
also add 1e-6 to each precision, and a second bias, starting at 0.1, to each log precision; here nothing is added, and
the only bias starts at 0.1. There is no dropout, as in all sources of this model.

Reconstructions use the mean of z, and the objective the means of w and z. The authors' code reconstructs from one draw
of z; for that, score with ``montecarlo:samples=1``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from uadtk.networks.dense import DenseAutoencoder
from uadtk.networks.distances import l1
from uadtk.networks.mixture import MixtureLatent, Responsibilities
from uadtk.plugin import Batch, option


@dataclass(frozen=True)
class Options:
    components: int = option(9, "Components of the mixture.", ge=1, le=256)
    dim_z: int = option(128, "Dimension of z.", ge=1, le=4096)
    dim_w: int = option(1, "Dimension of w, which determines the mixture.", ge=1, le=4096)
    c_lambda: float = option(1.0, "Divergence of the component below which the loss is constant.", ge=0)
    responsibilities: Responsibilities = option(
        "correct", "From the Gaussian densities of the components, or as in the authors' codes."
    )


class Model(nn.Module):
    Options = Options

    def __init__(self, options: Options, side: int) -> None:
        super().__init__()
        self.options = options
        self.net = DenseAutoencoder(side, options.dim_z, heads=0)
        self.latent = MixtureLatent(
            self.net.latent.expand.out_features,
            options.dim_z,
            options.dim_w,
            options.components,
            options.c_lambda,
            options.responsibilities,
        )

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        """The loss and its four terms; w and z are drawn once."""
        z, terms = self.latent(self._features(batch.image), draw=True)
        terms = {"reconstruction": l1(batch.target, self._decode(z), batch.normal), **terms}
        means = {name: term.mean() for name, term in terms.items()}
        return {"loss": torch.stack(list(means.values())).sum(), **means}

    def reconstruct(self, x: Tensor) -> Tensor:
        _, q_z = self.latent.encode(self._features(x))
        return self._decode(q_z.mean)

    def sample(self, x: Tensor, n: int) -> Tensor:
        """Reconstructions from draws of z; x̂ does not depend on w."""
        _, q_z = self.latent.encode(self._features(x))
        return torch.stack([self._decode(q_z.draw()) for _ in range(n)])

    def objective(self, x: Tensor) -> Tensor:
        """Loss of each slice at the means of w and z: the negative evidence lower bound, except for ``c_lambda``."""
        z, terms = self.latent(self._features(x), draw=False)
        return l1(x, self._decode(z)) + torch.stack(list(terms.values())).sum(0)

    def _features(self, x: Tensor) -> Tensor:
        """Input of the heads, as a map of one position (B, F, 1, 1)."""
        return self.net.latent.squeeze(self.net.encoder(x)).flatten(1)[..., None, None]

    def _decode(self, z: Tensor) -> Tensor:
        return self.net.decode(z.flatten(1))
