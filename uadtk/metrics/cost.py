"""What a scan costs: seconds and peak memory."""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

_OWN = Path("/proc/self")


@dataclass
class Cost:
    """``seconds`` on the wall clock. ``peak_mb``: most memory (MiB) the process held meanwhile, interpreter included.

    Where the kernel cannot forget an earlier peak (not Linux) it is the process's peak so far: an upper bound. Memory
    of a GPU is not counted.
    """

    seconds: float = 0.0
    peak_mb: float = 0.0


@contextmanager
def measured() -> Iterator[Cost]:
    """Measure what runs inside; the figures are there once it has ended."""
    cost = Cost()
    with suppress(OSError):
        (_OWN / "clear_refs").write_text("5")  # from here on VmHWM is the peak of what follows
    start = perf_counter()
    try:
        yield cost
    finally:
        cost.seconds, cost.peak_mb = perf_counter() - start, _peak_mb()


def _peak_mb() -> float:
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", (_OWN / "status").read_text())
    except OSError:
        found = None
    if found:
        return int(found[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kB, bytes on macOS
    return peak / (1024**2 if sys.platform == "darwin" else 1024)
