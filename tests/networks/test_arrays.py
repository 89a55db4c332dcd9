from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from uadtk.core.errors import UsageError
from uadtk.networks.arrays import read_array, to_array, to_tensor


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


def test_files_that_hold_no_array_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npy")
    (tmp_path / "text.npy").write_text("1 2 3")
    np.savez(tmp_path / "several.npz", a=np.ones(3))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    head = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776, 9), }\n"
    (tmp_path / "huge.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(UsageError, match="takes a"):
            read_array(str(path), "--simulated")
