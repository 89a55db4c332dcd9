"""Group norm that gives a slice the same result whatever slices are beside it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GroupNorm(nn.GroupNorm):
    """torch's, in the order in memory in which it is exact.

    Where channels come last, on a CPU, it adds up naively: at 128 pixels a slice then changes, in the third digit, with
    the slices beside it and the number of threads.
    """

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)
