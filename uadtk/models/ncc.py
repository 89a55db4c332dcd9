"""Correlation with lesion templates: no network, small pieces of lesions that are looked for everywhere.

The noisy prior of Baur, Albarqouni, Navab: *Semi-Supervised Deep Learning for Fully Convolutional Networks* (MICCAI
2017), for scans without labels: up to 30 pieces of 5 x 5 x 5 voxels are cut out around the middles of lesions; the
score is the geometric mean over them of the absolute normalised cross-correlation. Its masks are what ``unet`` takes as
``prior_mask``: ``uadtk train ncc``, ``uadtk threshold --strategy validation`` (the best DICE on labelled scans, as in
the paper), ``uadtk segment``.

Here voxels are those of the prepared slices; lesions are counted slice by slice, and those that are flat are left out.
Training is a single pass through the labelled slices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uadtk.kernels import label_components
from uadtk.networks.ncc import FLAT, template_match
from uadtk.plugin import Batch, DataError, option

REACH = 2  # voxels on either side of the middle


@dataclass(frozen=True)
class Options:
    templates: int = option(30, "Pieces of lesions, at most.", ge=1, le=1000)


class Model(nn.Module):
    Options = Options
    supervised = True
    neighbours = REACH
    exempt: ClassVar = {"planted_lesion_outscores_the_brain": "The discs are flat: nothing correlates with them."}
    pieces: Tensor
    count: Tensor

    def __init__(self, options: Options, side: int) -> None:
        super().__init__()
        size = 2 * REACH + 1
        self.register_buffer("pieces", torch.zeros(options.templates, size, size, size))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def conclude(self, batches: Iterable[Batch]) -> None:
        """Cut out a piece around each lesion of each slice, and keep as many as may be at random."""
        found = [piece for batch in batches for piece in _pieces(batch)]
        if not found:
            raise DataError("no lesion to cut a template from", "ncc", "Lesions must be marked, and not be flat.")
        chosen = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))[: len(self.pieces)]
        self.pieces[: len(chosen)] = torch.stack([found[i] for i in chosen])
        self.count.fill_(len(chosen))

    def score(self, x: Tensor, brain: Tensor) -> Tensor:
        """Before there are templates it is 0."""
        if not self.count:
            return torch.zeros_like(x)
        return template_match(x[:, 0], self.pieces[: int(self.count)])[:, None] * brain


def _pieces(batch: Batch) -> Iterator[Tensor]:
    """(5, 5, 5), the middle of which is the middle of a lesion in one slice."""
    image = F.pad(batch.image, (REACH,) * 4)
    for stack, lesion in zip(image, batch.lesion & batch.known & batch.brain, strict=True):
        labels, count = label_components(lesion.cpu().numpy())
        for label in range(1, count + 1):
            pixels = torch.nonzero(torch.from_numpy(labels[0] == label)).float()
            y, x = pixels[(pixels - pixels.mean(0)).square().sum(1).argmin()].long().tolist()
            piece = stack[:, y : y + 2 * REACH + 1, x : x + 2 * REACH + 1]
            if (piece - piece.mean()).square().sum() > FLAT:
                yield piece
