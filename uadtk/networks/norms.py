"""Group norm whose result for a slice does not depend on the rest of the batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GroupNorm(nn.GroupNorm):
    """torch's group norm, computed in contiguous memory format, in which it is exact.

    In channels-last format on a CPU it sums naively: at 128 pixels the result of a slice then varies, in the third
    digit, with the rest of the batch and the number of threads.
    """

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)
