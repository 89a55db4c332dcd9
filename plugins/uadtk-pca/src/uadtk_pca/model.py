"""Principal components of normal slices, the linear baseline.

A slice is projected on ``components`` orthonormal images. Those that lose least of the normal slices span their first
principal components (Baldi & Hornik, *Neural Networks and Principal Component Analysis*, 1989; uncentred, so that the
first one is about the mean). They are found by gradient, because then lesions can be left out of the loss, and scans
stream through in batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from uadtk.plugin import Batch, option


@dataclass(frozen=True)
class Options:
    components: int = option(64, "Images a slice is put together from.", ge=1, le=1024)


class Model(nn.Module):
    Options = Options

    def __init__(self, options: Options, side: int) -> None:
        super().__init__()
        # Only the directions matter. At this length Adam's usual step turns them by about a degree.
        self.span = nn.Parameter(torch.randn(side * side, options.components) / side)

    def basis(self) -> Tensor:
        """(S * S, components), orthonormal columns."""
        q: Tensor = torch.linalg.qr(self.span).Q
        return q

    def reconstruct(self, x: Tensor) -> Tensor:
        basis = self.basis()
        return (x.flatten(1) @ basis @ basis.T).view_as(x)

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Mean squared error over the normal pixels."""
        error = (self.reconstruct(batch.image) - batch.image).square()
        return {"loss": (error * batch.normal).sum() / batch.normal.sum().clamp(min=1)}
