"""The ``Run`` of a command or a notebook: device and threads chosen once, lines and progress bars on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import torch

from uadtk import registry
from uadtk.core.errors import BackendError
from uadtk.core.machine import usable_cores
from uadtk.core.run import Run
from uadtk.core.text import shown
from uadtk.kernels._cache import ADVICE, cache_folder


def make_run(
    device: str = "auto", threads: int = 0, seed: int = 0, trust: Literal["sform", "qform"] | None = None
) -> Run:
    """``device`` auto, cpu or cuda; ``threads`` for torch, 0 for one per core.

    Of several processes that ``torchrun`` started, each takes its own GPU or its share of the cores.

    Raises
    ------
    BackendError
        ``cuda`` was asked for and is not available.
    """
    for warning in registry.warnings():
        say(f"warning: {warning}")
    if cache_folder() is None:
        say(f"warning: {ADVICE}")
    if device == "cuda" and not torch.cuda.is_available():
        raise BackendError("no CUDA device is available", "--device cuda", "Use --device cpu.")
    chosen = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    here, beside = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if chosen == "cuda" and beside > 1:
        torch.cuda.set_device(here)
        chosen = f"cuda:{here}"
    torch.set_num_threads(threads or max(1, usable_cores() // beside))
    return Run(device=chosen, seed=seed, say=say, track=track, trust=trust or "")


def leads() -> bool:
    """False in all but the first of the processes that ``torchrun`` started."""
    return os.environ.get("RANK", "0") == "0"


def say(line: str) -> None:
    """A line for people, on stderr."""
    if leads():
        print(shown(line), file=sys.stderr, flush=True)


def track(items: Iterable[Any], what: str) -> Iterator[Any]:
    """A progress bar with the time left, on a terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track as bar

    yield from bar(items, description=what, console=Console(stderr=True), transient=True)
