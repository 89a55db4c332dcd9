"""Multiscale: residuals of the image and of blurred, smaller copies of it, combined at full size.

Baur, Wiestler, Albarqouni, Navab: *Scale-Space Autoencoders for Unsupervised Anomaly Segmentation in Brain MRI*
(MICCAI 2020, arXiv 2006.12852) combine residuals of several scales and report an improvement, without publishing how.
Inferred here: image and reconstruction pass through the same pyramid; at each scale the abnormal sign is kept and
upsampled bilinearly to full size; the score is the mean or the maximum of the scales. The reconstruction outside the
brain counts at no scale. Works with every model that reconstructs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from uadtk.kernels.residual import Polarity
from uadtk.networks.pyramid import Pyramid
from uadtk.plugin import Scored, UsageError, option

LEAST = 4  # pixels along a side, at the coarsest scale


@dataclass(frozen=True)
class Options:
    levels: int = option(3, "Number of times that slices are halved.", ge=1, le=5)
    take: Literal["mean", "max"] = option("mean", "Mean or maximum of the scales.")
    polarity: Polarity = option("positive", "Abnormal sign of the residual.")


class Scorer:
    Options = Options
    needs = ("reconstruct",)

    def __init__(self, options: Options) -> None:
        self.options = options
        self.pyramid = Pyramid(options.levels)

    def score(self, model: Any, x: Tensor, brain: Tensor) -> Scored:
        """A pyramid is linear: the scales of x - x̂ are those of x minus those of x̂."""
        side, levels = x.shape[-1], self.options.levels
        if side % 2**levels or side >> levels < LEAST:
            raise UsageError(f"slices of {side} pixels cannot be halved {levels} times", "levels", "Use fewer levels.")
        reconstruction = model.reconstruct(x) * brain
        scales = self.pyramid.to(x.device).scales(x * brain - reconstruction)
        residuals = torch.stack([self._enlarged(self._signed(scale), k) for k, scale in enumerate(scales)])
        score = residuals.mean(0) if self.options.take == "mean" else residuals.amax(0)
        return Scored(score * brain, {"reconstruction": reconstruction})

    def _signed(self, difference: Tensor) -> Tensor:
        return difference.clamp(min=0) if self.options.polarity == "positive" else difference.abs()

    def _enlarged(self, residual: Tensor, times: int) -> Tensor:
        """(B, 1, S / 2^times, S / 2^times) -> (B, 1, S, S)."""
        for _ in range(times):
            residual = self.pyramid.up(residual)
        return residual
