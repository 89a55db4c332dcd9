"""The ``Run`` of a command or a notebook: device and threads chosen once, lines and progress bars on stderr."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, Literal

import torch

from uadtk import registry
from uadtk.core.errors import BackendError
from uadtk.core.machine import usable_cores, wanted_threads
from uadtk.core.run import Run
from uadtk.core.text import shown
from uadtk.kernels._cache import ADVICE, cache_folder

LOG_EVERY_S = 60.0


def make_run(
    device: str = "auto",
    threads: int = 0,
    seed: int = 0,
    trust: Literal["sform", "qform"] | None = None,
    jobs: int = 1,
    cluster: str = "",
) -> Run:
    """``device`` auto, cpu or cuda; ``threads`` for torch, 0 for ``OMP_NUM_THREADS``, or else one per core; ``jobs``
    processes share them.

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
    told = wanted_threads() if beside == 1 else None  # torchrun sets the variable to 1 for all
    torch.set_num_threads(threads or told or max(1, usable_cores() // beside))
    return Run(chosen, seed, say, track, trust=trust or "", jobs=jobs, cluster=cluster)


def leads() -> bool:
    """False in all but the first of the processes that ``torchrun`` started."""
    return os.environ.get("RANK", "0") == "0"


def say(line: str) -> None:
    """A line for people, on stderr."""
    if leads():
        print(shown(line), file=sys.stderr, flush=True)


def track(items: Iterable[Any], what: str) -> Iterator[Any]:
    """A progress bar with the time left on a terminal; in a log, now and then a line with the same."""
    if not sys.stderr.isatty():
        yield from logged(items, what)
        return
    from rich.console import Console
    from rich.progress import track as bar

    yield from bar(items, description=what, console=Console(stderr=True), transient=True)


def logged(items: Iterable[Any], what: str, clock: Callable[[], float] = time.monotonic) -> Iterator[Any]:
    """The items, and a line on stderr at most every ``LOG_EVERY_S``, with the time left at the pace since the last."""
    total = len(items) if isinstance(items, Sized) else 0
    last, reported = clock(), 0
    for place, item in enumerate(items):
        now = clock()
        if now - last >= LOG_EVERY_S and place > reported:
            left_s = (total - place) * (now - last) / (place - reported)
            say(f"{what}: {place} of {total}, about {duration(left_s)} left" if total else f"{what}: {place}")
            last, reported = now, place
        yield item


def duration(seconds: float) -> str:
    """For people: two units, as in ``1 h 46 min``.

    >>> duration(6378), duration(75), duration(300000)
    ('1 h 46 min', '1 min 15 s', '3 d 11 h')
    """
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    whole, parts = round(seconds), list[str]()
    for name, size in units:
        count, whole = divmod(whole, size)
        if count or parts or size == 1:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2])
