"""Conversion between torch tensors and the arrays of the kernels, and arrays that an option names."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch.utils.dlpack
from torch import Tensor

from uadtk.core.absent import refuse_special
from uadtk.core.errors import DataError, UsageError


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


def read_array(path: str, option: str) -> Tensor:
    """The numbers of a .npy file that an option of a model names. Raises UsageError if there are none."""
    try:
        refuse_special(Path(path))
        found = np.load(path)
        return torch.from_numpy(found if found.dtype == np.float16 else found.astype(np.float32))
    except (OSError, EOFError, TypeError, ValueError, AttributeError, MemoryError, DataError) as error:
        raise UsageError(f"cannot be read ({error})", path, f"{option} takes a .npy file.") from None
