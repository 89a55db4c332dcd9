"""The cost of scoring a scan: seconds and peak memory."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

_OWN = Path("/proc/self")


@dataclass
class Cost:
    """``seconds`` of wall-clock time; ``peak_mb``: peak memory of the process (MiB), the interpreter included.

    Only Linux can reset the peak; elsewhere it is the peak since the process started, an upper bound. NaN where the
    system reports none (Windows). GPU memory is not counted.
    """

    seconds: float = 0.0
    peak_mb: float = math.nan

    def __add__(self, other: Cost) -> Cost:
        """Of one block after the other."""
        return Cost(self.seconds + other.seconds, max(self.peak_mb, other.peak_mb))


@contextmanager
def measured() -> Iterator[Cost]:
    """Measure the block; the figures are filled in when it ends."""
    cost = Cost()
    with suppress(OSError):
        (_OWN / "clear_refs").write_text("5")  # reset VmHWM: from here on it is the peak of the block
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
    try:
        import resource
    except ImportError:
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if sys.platform == "darwin" else 1024)  # bytes on macOS, kB elsewhere
