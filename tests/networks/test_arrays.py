from __future__ import annotations

import numpy as np
import torch

from uadtk.networks.arrays import to_array, to_tensor


def test_a_tensor_on_the_cpu_and_its_array_share_memory() -> None:
    tensor = torch.arange(4.0)
    array = to_array(tensor)
    array[0] = 7
    assert tensor[0] == 7
    back = to_tensor(array)
    back[1] = 8
    assert array[1] == 8


def test_gradients_do_not_come_along() -> None:
    assert isinstance(to_array(torch.ones(2, requires_grad=True)), np.ndarray)
