"""Random feature embedding: what has the same label should look the same to a network, whoever labelled it.

Baur, Albarqouni, Navab: *Semi-Supervised Deep Learning for Fully Convolutional Networks* (MICCAI 2017). Of every batch
a few pixels are drawn, as many from slices with labels as from slices without; each pair with the same class is pulled
together in feature space, each pair of two classes is pushed apart up to a margin. The class of a pixel is its label
or, where there is none, what a noisy prior says of it.

The loss is the mean over ordered pairs i != j of W d + (1 - W) max(0, m - d), with W = 1 for the same class. The paper
divides the sum by the number of pixels drawn instead; of a mean, the weight means the same however many are drawn.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from uadtk.core.model import Batch

Distance = Literal["l2", "cosine", "angular"]
Sampling = Literal["50:50", "80:20", "frequency"]
MARGIN = {"l2": 1000.0, "cosine": 1.0, "angular": 0.5}  # the paper's
UNKNOWN = -1  # class of a pixel; else 0 normal, 1 lesion
BACKGROUND = 0.1  # intensities below it are never drawn
BINS = 32


def classes(batch: Batch) -> Tensor:
    """int64 (B, 1, S, S): by label; else by hint; else, and outside the brain or in the dark, ``UNKNOWN``."""
    middle = batch.image.shape[1] // 2
    said = torch.where(batch.known, batch.lesion, batch.hint).long()
    counts = (batch.known | batch.hinted) & batch.brain & (batch.image[:, middle : middle + 1] >= BACKGROUND)
    return torch.where(counts, said, UNKNOWN)


def draw(kind: Tensor, known: Tensor, n: int, sampling: Sampling) -> Tensor:
    """Indices into the flattened ``kind`` (classes) of pixels drawn from labelled and, apart, from unlabelled slices.

    Of each class c with n_c pixels, round(min(n, n_c) * f_c) are drawn, without repetition. ``sampling`` is f: one half
    each, 0.8 of normal and 0.2 of lesion, or the classes' own ``frequency``.
    """
    kind, known = kind.flatten(), known.flatten()
    return torch.cat([_drawn(kind, side, n, sampling) for side in (known, ~known)])


def _drawn(kind: Tensor, side: Tensor, n: int, sampling: Sampling) -> Tensor:
    pools = [torch.nonzero(side & (kind == c))[:, 0] for c in (0, 1)]
    total = max(1, sum(len(pool) for pool in pools))
    own = [len(pool) / total for pool in pools]
    shares = {"50:50": [0.5, 0.5], "80:20": [0.8, 0.2], "frequency": own}[sampling]
    counts = [round(min(n, len(pool)) * share) for pool, share in zip(pools, shares, strict=True)]
    order = [torch.randperm(len(pool)).to(pool.device) for pool in pools]
    return torch.cat([pool[o[:count]] for pool, o, count in zip(pools, order, counts, strict=True)])


def distances(embedded: Tensor, kind: Distance) -> Tensor:
    """(n, C) -> (n, n): squared l2, 1 - cosine in [0, 2], or the angle as a share of half a turn, in [0, 1].

    In float32 at least, whatever the precision around it: in bfloat16 the cosine of like features is 1, where the slope
    of arccos is infinite.
    """
    with torch.autocast(embedded.device.type, enabled=False):
        return _distances(embedded.to(torch.promote_types(embedded.dtype, torch.float32)), kind)


def _distances(embedded: Tensor, kind: Distance) -> Tensor:
    if kind == "l2":
        squares = embedded.square().sum(1)
        return (squares[:, None] + squares - 2 * embedded @ embedded.T).clamp(min=0)
    unit = F.normalize(embedded, dim=1)
    cosine = unit @ unit.T
    if kind == "cosine":
        return 1 - cosine
    return cosine.clamp(-1 + 1e-6, 1 - 1e-6).arccos() / math.pi  # at 1 and -1 the slope is infinite


def embedding_loss(embedded: Tensor, kind: Tensor, distance: Distance) -> Tensor:
    """Scalar loss of ``embedded`` (n, C) with classes ``kind`` (n,); 0 of fewer than two."""
    n = len(embedded)
    if n < 2:
        return embedded.sum() * 0
    apart = distances(embedded, distance)
    same = kind[:, None] == kind
    cost = torch.where(same, apart, (MARGIN[distance] - apart).clamp(min=0))
    others = ~torch.eye(n, dtype=torch.bool, device=kind.device)
    return cost[others].mean()


@torch.no_grad()
def divergences(drawn: Tensor, everything: Tensor) -> tuple[Tensor, Tensor]:
    """How well what is drawn (n, C) stands for ``everything`` (N, C): KL(drawn | all) and Jensen-Shannon, in nats.

    Of the histogram of each channel, in 32 bins over the range of all; the mean over channels. The paper logs both.
    """
    if not len(drawn):
        return drawn.new_zeros(()), drawn.new_zeros(())
    low, high = everything.amin(0), everything.amax(0)
    p, q = (_histogram(values, low, high) for values in (drawn, everything))
    m = (p + q) / 2
    return _kl(p, q), (_kl(p, m) + _kl(q, m)) / 2


def _histogram(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Share of ``values`` (n, C) in each bin (C, BINS)."""
    width = (high - low).clamp(min=torch.finfo(values.dtype).tiny)
    bins = ((values - low) / width * BINS).long().clamp(0, BINS - 1)
    counts = torch.zeros(values.shape[1], BINS, device=values.device)
    return counts.scatter_add_(1, bins.T, torch.ones_like(bins.T, dtype=counts.dtype)) / len(values)


def _kl(p: Tensor, q: Tensor) -> Tensor:
    terms = torch.where(p > 0, p * (p / q.clamp(min=torch.finfo(q.dtype).tiny)).log(), 0)
    return terms.nan_to_num().sum(1).mean()
