"""Tissue maps: each tissue class of a slice reduced to one intensity, as targets of image translation.

They simulate healthy scans of low entropy from the slice itself: k-means of its intensities, smoothed beforehand so
that noise does not form classes, and slightly blurred afterwards.
"""

from __future__ import annotations

import torch
from torch import Tensor

from uadtk.networks.translation import low_pass

BEFORE, AFTER = 1.0, 0.5  # standard deviations of the two blurs, pixels
ROUNDS = 10


def tissue_map(image: Tensor, brain: Tensor, normal: Tensor, tissues: int) -> Tensor:
    """``image`` with each pixel replaced by the mean of its class, slightly blurred, 0 outside ``brain``.

    All (B, 1, S, S); slices are processed independently. Pixels that are not ``normal`` are excluded from the means and
    get the mean of the middle class (with three classes in FLAIR, white matter), so that the result is healthy.
    """
    counted = brain & normal
    weight = counted.to(image.dtype)
    smooth = low_pass(image * weight, BEFORE) / low_pass(weight, BEFORE)
    values = torch.where(counted, smooth, 0.0).flatten(1)
    means = class_means(values, counted.flatten(1), tissues)
    classes = torch.where(normal.flatten(1), _classes(values, means), tissues // 2)
    return low_pass(means.gather(1, classes).reshape(image.shape), AFTER) * brain


def class_means(values: Tensor, counted: Tensor, classes: int) -> Tensor:
    """(B, ``classes``), ascending: k-means of the ``counted`` (bool) numbers in each row of ``values`` (B, N).

    Deterministic: it starts from evenly spaced quantiles and runs ``ROUNDS`` iterations. An empty class keeps its mean;
    a row without counted numbers is all 0.
    """
    middles = (torch.arange(classes, device=values.device) + 0.5) / classes
    means = torch.nanquantile(values.masked_fill(~counted, torch.nan), middles, dim=1).T.nan_to_num()
    every = torch.arange(classes, device=values.device)[:, None]
    for _ in range(ROUNDS):
        members = (_classes(values, means)[:, None] == every) & counted[:, None]  # (B, classes, N)
        size = members.sum(2)
        means = torch.where(size > 0, (members * values[:, None]).sum(2) / size.clamp(min=1), means)
    return means


def _classes(values: Tensor, means: Tensor) -> Tensor:
    """Index of the nearest of the ascending ``means`` (B, K) for each of ``values`` (B, N)."""
    return torch.searchsorted(((means[:, 1:] + means[:, :-1]) / 2).contiguous(), values.contiguous())
