"""Shared by the steps of `device.py`: what a step is given, and what it may do with the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parent.parent
Result = dict[str, Any]
"""A row of a table: ``table`` is the table's title, the other keys are its columns."""


@dataclass(frozen=True)
class Sizes:
    """How much is done: all of it on a GPU; as little as touches every line on a CPU, where it is a rehearsal."""

    volume: str | tuple[int, int, int]  # of the kernels, as in `kernels/harness.py`
    samples: int  # Monte Carlo reconstructions
    megabytes: int  # copied to measure bandwidth
    repeats: int
    tests: tuple[str, ...]
    demo: bool  # segment the demo phantom of 1 mm, besides a clinical scan
    models: tuple[str, ...]  # segmented with
    batches: tuple[int, ...]
    restoration: str  # options of the scorer besides its variants
    papers_steps: int
    widths: tuple[int, ...]  # of the model implant, the widest first
    least_epochs: int  # for a width to be chosen
    most_epochs: int
    at_once: int  # trainings
    most_steps: int  # of each training but the first
    most_models: int


# Tests of the dispatch and of the CUDA sources put a CuPy of their own in place of the real one.
ON_CPU = ("--ignore=tests/kernels/test_dispatch.py", "--ignore=tests/kernels/test_cuda_sources.py")
FULL = Sizes(
    volume="mni",
    samples=40,
    megabytes=1024,
    repeats=15,
    tests=("tests/kernels", "-n", "8", "-k", "cupy", *ON_CPU),
    demo=True,
    models=("implant", "scalespace"),
    batches=(8, 32, 128),
    restoration="",
    papers_steps=500,
    widths=(64, 32),
    least_epochs=24,
    most_epochs=400,
    at_once=6,
    most_steps=20_000,
    most_models=100,
)
REHEARSAL = Sizes(
    volume=(8, 24, 24),
    samples=2,
    megabytes=1,
    repeats=1,
    tests=("tests/kernels/test_erosion.py", "-k", "numba and empty"),
    demo=False,
    models=("scalespace",),
    batches=(8,),
    restoration="steps=2",
    papers_steps=2,
    widths=(4,),
    least_epochs=1,
    most_epochs=1,
    at_once=2,
    most_steps=1,
    most_models=1,
)


@dataclass(frozen=True)
class Job:
    """``device`` cuda or cpu; ``work``: folder for everything that need not come back; ``deadline`` of this step.

    ``steps``: batches of each training, 0 to choose them by the time left. ``before``: rows of the earlier steps.
    """

    device: str
    sizes: Sizes
    work: Path
    pack: Path
    deadline: float
    steps: int
    before: tuple[Result, ...] = ()

    @property
    def models(self) -> Path:
        """Tables, prepared slices and checkpoints."""
        return self.work / "models"

    def left_s(self) -> float:
        return self.deadline - time.monotonic()


def seconds(work: Callable[[], object], repeats: int, wait: Callable[[], object] = lambda: None) -> float:
    """Median wall time after a call that is not timed; ``wait`` returns when the device has finished."""
    work()
    wait()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        wait()
        taken.append(time.perf_counter() - start)
    return median(taken)
