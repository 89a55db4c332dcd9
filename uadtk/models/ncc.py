"""Template matching: normalised cross-correlation with small pieces of lesions; no network.

The noisy prior of Baur, Albarqouni, Navab: *Semi-Supervised Deep Learning for Fully Convolutional Networks* (MICCAI
2017), for scans without labels: up to 30 templates of 5 x 5 x 5 voxels are cut out around the centres of lesions; the
score is the geometric mean over them of the absolute normalised cross-correlation. Its masks serve as ``prior_mask`` of
``unet``: ``uadtk train ncc``, ``uadtk threshold --strategy validation`` (the best DICE on labelled scans, as in the
paper), ``uadtk segment``.

Here voxels are those of the prepared slices; lesions are taken slice by slice, and templates of constant intensity are
left out. Training is a single pass through the labelled slices.
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

REACH = 2  # voxels on each side of the centre


@dataclass(frozen=True)
class Options:
    templates: int = option(30, "Maximum number of templates.", ge=1, le=1000)


class Model(nn.Module):
    Options = Options
    supervised = True
    neighbours = REACH
    exempt: ClassVar = {"planted_lesion_outscores_the_brain": "The planted discs are constant: nothing correlates."}
    pieces: Tensor
    count: Tensor

    def __init__(self, options: Options, side: int) -> None:
        super().__init__()
        size = 2 * REACH + 1
        self.register_buffer("pieces", torch.zeros(options.templates, size, size, size))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def conclude(self, batches: Iterable[Batch]) -> None:
        """Cut out a template around each lesion of each slice; store a random selection if there are too many."""
        found = [piece for batch in batches for piece in _pieces(batch)]
        if not found:
            raise DataError("no lesion to cut a template from", "ncc", "It needs marked lesions of varying intensity.")
        chosen = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))[: len(self.pieces)]
        self.pieces[: len(chosen)] = torch.stack([found[i] for i in chosen])
        self.count.fill_(len(chosen))

    def score(self, x: Tensor, brain: Tensor) -> Tensor:
        """The score is 0 until templates have been fitted."""
        if not self.count:
            return torch.zeros_like(x)
        return template_match(x[:, 0], self.pieces[: int(self.count)])[:, None] * brain


def _pieces(batch: Batch) -> Iterator[Tensor]:
    """Templates (5, 5, 5), each centred on a lesion of one slice."""
    image = F.pad(batch.image, (REACH,) * 4)
    for stack, lesion in zip(image, batch.lesion & batch.known & batch.brain, strict=True):
        labels, count = label_components(lesion.cpu().numpy())
        for label in range(1, count + 1):
            pixels = torch.nonzero(torch.from_numpy(labels[0] == label)).float()
            y, x = pixels[(pixels - pixels.mean(0)).square().sum(1).argmin()].long().tolist()
            piece = stack[:, y : y + 2 * REACH + 1, x : x + 2 * REACH + 1]
            if (piece - piece.mean()).square().sum() > FLAT:
                yield piece
