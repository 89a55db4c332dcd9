"""Several processes that train one model: ``torchrun --nproc-per-node 2 -m uadtk train ...``.

Each process takes its share of every batch; gradients are summed, so that all take the same step. Only process 0
prepares slices, writes files and prints.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from uadtk.core.run import Run

PATIENCE = timedelta(days=1)  # the others wait while process 0 prepares the slices of a large cohort


@dataclass(frozen=True)
class World:
    """Rank of this process and number of processes; by default there is one."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """This process's part of the rows of a batch; the parts differ by at most one row."""
        return np.array_split(rows, self.size)[self.rank]

    def total(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its sum over the processes."""
        if self.size > 1:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            dist.all_reduce(flat)
            for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def total_of(self, sums: dict[str, float], device: str) -> dict[str, float]:
        """The sum over the processes for each name; all processes must have the same names."""
        values = torch.tensor(list(sums.values()), dtype=torch.float64, device=device)
        self.total([values])
        return dict(zip(sums, values.tolist(), strict=True))

    def agreed(self, ours: bool) -> bool:
        """The value that process 0 has."""
        value = [ours]
        if self.size > 1:
            dist.broadcast_object_list(value, src=0)
        return value[0]

    def wait(self) -> None:
        """Block until all processes have reached this point."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def joined(run: Run) -> Iterator[World]:
    """The processes that ``torchrun`` started, connected by gloo or, on GPUs, nccl; without it a single one.

    They can be connected only once: around several trainings in a row, enter this block, and that of each is in it.
    """
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        yield World()
        return
    if dist.is_initialized():
        yield World(dist.get_rank(), size)
        return
    settings: dict[str, Any] = {"timeout": PATIENCE}
    dist.init_process_group("nccl" if run.device.startswith("cuda") else "gloo", **settings)
    try:
        yield World(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()
