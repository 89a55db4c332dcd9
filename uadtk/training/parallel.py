"""Several processes that train one model: ``torchrun --nproc-per-node 2 -m uadtk train ...``.

Each process takes its share of every batch; gradients are added up, so that all take the same step. Process 0 leads: it
alone prepares slices, writes and speaks.
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
    """Who we are among how many processes; by default alone."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Our part of the rows of a batch; the parts differ by one row at most."""
        return np.array_split(rows, self.size)[self.rank]

    def total(self, tensors: list[Tensor]) -> None:
        """Put the sum over the processes in place of each tensor."""
        if self.size > 1:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            dist.all_reduce(flat)
            for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def total_of(self, sums: dict[str, float], device: str) -> dict[str, float]:
        """The sum over the processes under each name; all processes know the same names."""
        values = torch.tensor(list(sums.values()), dtype=torch.float64, device=device)
        self.total([values])
        return dict(zip(sums, values.tolist(), strict=True))

    def agreed(self, ours: bool) -> bool:
        """What process 0 says."""
        said = [ours]
        if self.size > 1:
            dist.broadcast_object_list(said, src=0)
        return said[0]

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def joined(run: Run) -> Iterator[World]:
    """The processes that ``torchrun`` started, joined by gloo or, on GPUs, by nccl; without it ours alone."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        yield World()
        return
    settings: dict[str, Any] = {"timeout": PATIENCE}
    dist.init_process_group("nccl" if run.device.startswith("cuda") else "gloo", **settings)
    try:
        yield World(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()
