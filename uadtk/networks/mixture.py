"""Latents of a Gaussian mixture VAE: the prior of z is a mixture that depends on w.

Dilokthanakul et al., *Deep Unsupervised Clustering with Gaussian Mixture Variational Autoencoders* (2016). w is drawn
from N(0, 1), the component c uniformly from K, and z from N(mean, variance) of that component, both functions of w. The
image determines q(w) and q(z); the component follows by Bayes' rule.

All are maps with one number per position (B, n, h, w); a vector is a map of one position. Every position has a mixture
of its own, computed by the same weights.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from torch import Tensor, nn

from uadtk.networks.unified import gaussian_kl, glorot, narrow, sampled

Responsibilities = Literal["correct", "legacy"]

LOG_PRECISION = 0.1  # initial, of every component


class Gaussian(NamedTuple):
    """Independent normal distributions, one per number, with the log of the variance (not of σ)."""

    mean: Tensor
    log_variance: Tensor

    def draw(self) -> Tensor:
        """One draw from each, differentiable in mean and log variance."""
        return sampled(self.mean, self.log_variance / 2)


class MixtureLatent(nn.Module):
    """Features (B, F, h, w) -> z (B, dim_z, h, w), and the divergences of q(w), q(z) and q(c) from their priors.

    ``hidden`` is the width of a ReLU layer between w and the components; with 0, means and log precisions are linear in
    w. ``floor`` clamps the divergence of q(c) from below at every position, where it then has no gradient.
    """

    def __init__(
        self,
        features: int,
        dim_z: int,
        dim_w: int,
        components: int,
        floor: float,
        responsibilities: Responsibilities,
        hidden: int = 0,
    ) -> None:
        super().__init__()
        self.components, self.floor, self.responsibilities = components, floor, responsibilities
        self.heads = nn.ModuleList(nn.Conv2d(features, n, 1) for n in (dim_w, dim_w, dim_z, dim_z))
        self.hidden = nn.Sequential(nn.Conv2d(dim_w, hidden, 1), nn.ReLU()) if hidden else nn.Identity()
        self.means = nn.Conv2d(hidden or dim_w, components * dim_z, 1)
        self.log_precisions = nn.Conv2d(hidden or dim_w, components * dim_z, 1)
        self.apply(glorot)
        narrow(self.heads[3], times=2)  # type: ignore[arg-type]  # log σ² of z
        nn.init.constant_(self.log_precisions.bias, LOG_PRECISION)  # type: ignore[arg-type]

    def forward(self, features: Tensor, draw: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """z and the three divergences, each (B,). w and z are drawn with ``draw``, else they are the means."""
        q_w, q_z = self.encode(features)
        w, z = (q_w.draw(), q_z.draw()) if draw else (q_w.mean, q_z.mean)
        prior = self.prior(w)
        log_q = log_responsibilities(z, prior, self.responsibilities)
        return z, {
            "conditional": conditional_divergence(q_z, prior, log_q),
            "w": gaussian_kl(q_w.mean, q_w.log_variance / 2),
            "component": component_divergence(log_q, self.floor),
        }

    def encode(self, features: Tensor) -> tuple[Gaussian, Gaussian]:
        """q(w) and q(z), in float32, as their divergences are small differences of large numbers."""
        w_mean, w_log_variance, z_mean, z_log_variance = (head(features).float() for head in self.heads)
        return Gaussian(w_mean, w_log_variance), Gaussian(z_mean, z_log_variance)

    def prior(self, w: Tensor) -> Gaussian:
        """p(z|w,c) of every component, (B, K, dim_z, h, w)."""
        hidden = self.hidden(w)
        mean, log_precision = (
            m(hidden).float().unflatten(1, (self.components, -1)) for m in (self.means, self.log_precisions)
        )
        return Gaussian(mean, -log_precision)


def log_responsibilities(z: Tensor, components: Gaussian, form: Responsibilities = "correct") -> Tensor:
    """log q(c|z,w) (B, K, h, w): log of each component's fraction of the density at z (B, dim_z, h, w).

    ``legacy`` is the density of the published codes, where the log precision enters with factor -1 instead of 1/2.
    """
    mean, log_variance = components
    distance = (z[:, None] - mean).square() * (-log_variance).exp()
    volume = log_variance if form == "correct" else -2 * log_variance
    return (-0.5 * (distance + volume)).sum(2).log_softmax(1)


def conditional_divergence(q_z: Gaussian, components: Gaussian, log_q: Tensor) -> Tensor:
    """Σ_c q(c) KL(q(z) || p(z|w,c)), summed over channels of z and positions -> (B,)."""
    mean, log_variance = (t[:, None] for t in q_z)
    offset = log_variance - components.log_variance
    distance = (mean - components.mean).square() * (-components.log_variance).exp()
    divergence = 0.5 * (offset.exp() + distance - offset - 1).sum(2)
    return (log_q.exp() * divergence).flatten(1).sum(1)


def component_divergence(log_q: Tensor, floor: float) -> Tensor:
    """KL(q(c) || uniform), at most log K and clamped at ``floor`` at each position, summed over positions -> (B,)."""
    divergence = (log_q.exp() * (log_q + math.log(log_q.shape[1]))).sum(1)
    return divergence.clamp(min=floor).flatten(1).sum(1)
