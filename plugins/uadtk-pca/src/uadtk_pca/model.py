"""Principal components of normal slices, the linear baseline.

A slice is projected on ``components`` orthonormal images. Those with the smallest reconstruction error span the first
principal components (Baldi & Hornik, *Neural Networks and Principal Component Analysis*, 1989; uncentred, so that the
first is close to the mean). They are fitted by gradient descent, so that lesions can be excluded from the loss and
scans are streamed in batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from uadtk.plugin import Batch, option


@dataclass(frozen=True)
class Options:
    components: int = option(64, "Number of principal components.", ge=1, le=1024)


class Model(nn.Module):
    Options = Options

    def __init__(self, options: Options, side: int) -> None:
        super().__init__()
        # Only the directions matter. At this length, a usual step of Adam rotates them by about a degree.
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
