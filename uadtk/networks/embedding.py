"""Random feature embedding: pixels of one class should have similar features, whatever the source of their label.

Baur, Albarqouni, Navab: *Semi-Supervised Deep Learning for Fully Convolutional Networks* (MICCAI 2017). A few pixels of
every batch are drawn, as many from slices with labels as from slices without; pairs of one class are pulled together in
feature space, pairs of two classes are pushed apart up to a margin. The class of a pixel is its label or, without one,
that of a noisy prior.

The loss is the mean over ordered pairs i != j of W d + (1 - W) max(0, m - d), with W = 1 for pairs of one class. The
paper divides the sum by the number of pixels drawn instead; with a mean, the weight does not depend on that number.
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
BACKGROUND = 0.1  # pixels of lower intensity are never drawn
BINS = 32


def classes(batch: Batch) -> Tensor:
    """int64 (B, 1, S, S): label, else hint; ``UNKNOWN`` without either, outside the brain and in the background."""
    label = torch.where(batch.known, batch.lesion, batch.hint).long()
    counts = (batch.known | batch.hinted) & batch.brain & (batch.own >= BACKGROUND)
    return torch.where(counts, label, UNKNOWN)


def draw(kind: Tensor, known: Tensor, n: int, sampling: Sampling) -> Tensor:
    """Indices into the flattened ``kind`` (classes) of pixels drawn, separately, from labelled and unlabelled slices.

    Of each class c with n_c pixels, round(min(n, n_c) * f_c) are drawn without replacement. ``sampling`` determines f:
    0.5 each, 0.8 normal and 0.2 lesion, or the ``frequency`` of the classes.
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
    """(n, C) -> (n, n): squared l2, 1 - cosine in [0, 2], or the angle divided by π, in [0, 1].

    In float32 at least, also under autocast: in bfloat16 the cosine of similar features rounds to 1, where the
    derivative of arccos is infinite.
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
    return cosine.clamp(-1 + 1e-6, 1 - 1e-6).arccos() / math.pi  # the derivative is infinite at 1 and -1


def embedding_loss(embedded: Tensor, kind: Tensor, distance: Distance) -> Tensor:
    """Scalar loss of ``embedded`` (n, C) with classes ``kind`` (n,); 0 for fewer than two pixels."""
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
    """Divergence of the drawn pixels (n, C) from ``everything`` (N, C): KL(drawn | all) and Jensen-Shannon, in nats.

    From the histogram of each channel, with 32 bins over the range of all pixels, averaged over channels. The paper
    logs both.
    """
    if not len(drawn):
        return drawn.new_zeros(()), drawn.new_zeros(())
    low, high = everything.amin(0), everything.amax(0)
    p, q = (_histogram(values, low, high) for values in (drawn, everything))
    m = (p + q) / 2
    return _kl(p, q), (_kl(p, m) + _kl(q, m)) / 2


def _histogram(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Fraction of ``values`` (n, C) in each bin (C, BINS)."""
    width = (high - low).clamp(min=torch.finfo(values.dtype).tiny)
    bins = ((values - low) / width * BINS).long().clamp(0, BINS - 1)
    counts = torch.zeros(values.shape[1], BINS, device=values.device)
    return counts.scatter_add_(1, bins.T, torch.ones_like(bins.T, dtype=counts.dtype)) / len(values)


def _kl(p: Tensor, q: Tensor) -> Tensor:
    terms = torch.where(p > 0, p * (p / q.clamp(min=torch.finfo(q.dtype).tiny)).log(), 0)
    return terms.nan_to_num().sum(1).mean()
