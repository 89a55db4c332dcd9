"""Training on slices that may contain unmarked lesions.

Two methods, for every model that reconstructs. *Trimming* leaves the pixels with the largest errors out of the loss
(You et al., MIDL 2019, as described in Baur's thesis; their public code lacks it, so percentile and warm-up are ours).
*Discriminative reconstruction* (Xia, Cao, Wen, Hua, Sun: *Learning Discriminative Reconstructions for Unsupervised
Outlier Removal*, ICCV 2015) splits the slices of a batch in two by reconstruction error, trains on the better half,
and adds a loss that separates the two.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from uadtk.core.model import Batch, Turn


def trimmed(model: Any, batch: Batch, percentile: float) -> Batch:
    """``batch`` without the normal brain pixels whose error is above that percentile of the batch's errors."""
    with torch.no_grad():
        error = _error(model, batch)
    counts = batch.normal & batch.brain
    rank = math.ceil(percentile / 100 * int(counts.sum()))
    if not rank:
        return batch
    cut = error[counts].kthvalue(rank).values
    return replace(batch, normal=batch.normal & ~(counts & (error > cut)))


def inliers(model: Any, batch: Batch) -> Batch:
    """The better reconstructed slices of ``batch``: those below the best split of mean errors."""
    with torch.no_grad():
        kept = _inlying(_slice_errors(model, batch))
    return batch.each(lambda tensor: tensor[kept])


def pushing_apart(model: Any, whole: Batch, turn: Turn, weight: float) -> Turn:
    """``turn`` with the discriminative term over the ``whole`` batch: ``weight`` times h, as a share of the loss.

    h = (within-class variance of the errors below and above the best threshold) / (their variance), in [0, 1]. The
    paper weighs it against errors of about 1; ours are sums over pixels, hence the share.
    """

    def loss(batch: Batch, *given: Any) -> dict[str, Tensor]:
        losses = dict(turn.loss(batch, *given))
        errors = _slice_errors(model, whole)
        apart = separation(errors, _inlying(errors.detach()))
        return {**losses, "loss": losses["loss"] + weight * losses["loss"].detach().abs() * apart, "apart": apart}

    return replace(turn, loss=loss)


def separation(errors: Tensor, low: Tensor) -> Tensor:
    """h of Xia et al.: scatter within ``low`` (bool) and within the rest, over the scatter of all errors (B,)."""
    scatter = _scatter(errors).clamp(min=torch.finfo(errors.dtype).tiny)
    return (_scatter(errors[low]) + _scatter(errors[~low])) / scatter


def _scatter(errors: Tensor) -> Tensor:
    return (errors - errors.mean()).square().sum() if len(errors) else errors.new_zeros(())


def _inlying(errors: Tensor) -> Tensor:
    """True for the errors below the threshold that minimises h (Otsu's criterion)."""
    order = errors.sort().values
    splits = [errors <= cut for cut in order[:-1]] or [torch.ones_like(errors, dtype=torch.bool)]
    return min(splits, key=lambda low: float(separation(errors, low)))


def _slice_errors(model: Any, batch: Batch) -> Tensor:
    """Mean error of each slice over its normal brain pixels (B,)."""
    counts = batch.normal & batch.brain
    return (_error(model, batch) * counts).flatten(1).sum(1) / counts.flatten(1).sum(1).clamp(min=1)


def _error(model: Any, batch: Batch) -> Tensor:
    """|x - x̂| (B, 1, S, S), reconstructed as in scoring."""
    training = model.training
    model.eval()
    error: Tensor = (batch.target - model.reconstruct(batch.image)).abs().float()
    model.train(training)
    return error
