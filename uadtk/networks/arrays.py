"""Conversion between torch tensors and the arrays of the kernels; the only place that does it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch.utils.dlpack
from torch import Tensor


def to_array(tensor: Tensor) -> Any:
    """NumPy for a tensor on the CPU; CuPy (by DLPack) for one on a GPU, or a host copy where CuPy is missing."""
    if tensor.device.type == "cpu":
        return tensor.detach().numpy()
    if find_spec("cupy") is None:
        return tensor.detach().cpu().numpy()
    import cupy

    return cupy.from_dlpack(tensor.detach())


def to_tensor(array: Any) -> Tensor:
    tensor: Tensor = torch.utils.dlpack.from_dlpack(array)
    return tensor
