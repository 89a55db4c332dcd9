"""Torch tensors to the arrays the kernels take, and back, without copies: the one place where this happens."""

from __future__ import annotations

from typing import Any

import torch.utils.dlpack
from torch import Tensor


def to_array(tensor: Tensor) -> Any:
    """NumPy for a tensor on the CPU, CuPy (by DLPack) for one on a GPU."""
    if tensor.device.type == "cpu":
        return tensor.detach().numpy()
    import cupy

    return cupy.from_dlpack(tensor.detach())


def to_tensor(array: Any) -> Tensor:
    tensor: Tensor = torch.utils.dlpack.from_dlpack(array)
    return tensor
