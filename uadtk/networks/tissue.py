"""Tissue maps: what is left of a slice if each of its tissues has one intensity, for models that translate to them.

A simulated healthy scan of low entropy, made from the slice itself: k-means of its intensities, smoothed before so that
noise makes no classes, and the map a little after.
"""

from __future__ import annotations

import torch
from torch import Tensor

from uadtk.networks.translation import low_pass

BEFORE, AFTER = 1.0, 0.5  # pixels, standard deviations
ROUNDS = 10


def tissue_map(image: Tensor, brain: Tensor, normal: Tensor, tissues: int) -> Tensor:
    """``image`` with each pixel replaced by the mean of its class, slightly blurred, 0 outside ``brain``.

    All (B, 1, S, S); each slice by itself. Pixels that are not ``normal`` have no part in the means and get that of the
    middle class (in FLAIR, of three, white matter), so that what comes out is healthy.
    """
    counted = brain & normal
    weight = counted.to(image.dtype)
    smooth = low_pass(image * weight, BEFORE) / low_pass(weight, BEFORE)
    values = torch.where(counted, smooth, 0.0).flatten(1)
    means = class_means(values, counted.flatten(1), tissues)
    classes = torch.where(normal.flatten(1), _classes(values, means), tissues // 2)
    return low_pass(means.gather(1, classes).reshape(image.shape), AFTER) * brain


def class_means(values: Tensor, counted: Tensor, classes: int) -> Tensor:
    """(B, ``classes``), ascending: k-means of each row of ``values`` (B, N), of those that are ``counted`` (bool).

    It starts from evenly spaced quantiles, so that nothing is random, and takes ``ROUNDS`` rounds. A class that nothing
    is nearest to keeps its place; a row without anything to count is all 0.
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
    """Which of the ascending ``means`` (B, K) is nearest to each of ``values`` (B, N)."""
    return torch.searchsorted(((means[:, 1:] + means[:, :-1]) / 2).contiguous(), values.contiguous())
