"""The machine a process runs on."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

from uadtk.core.errors import OutOfMemoryError

BYTES_A_VOXEL = 40  # of a scan, at the peak of processing it; measured: 27 to 33 on scans of 1 mm


def usable_cores() -> int:
    """CPU cores this process may use: of its affinity where the system has one (Linux), else of the machine, no more
    than its container's quota.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        count = getattr(os, "process_cpu_count", os.cpu_count)  # Python 3.13: also honours PYTHON_CPU_COUNT
        cores = count() or 1
    return min(cores, _quota() or cores)


def _quota(groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Cores of a control group's quota of time (``docker run --cpus``), rounded up."""
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # versions 2 and 1
        try:
            quota, period = map(int, " ".join((groups / file).read_text() for file in files).split())
        except (OSError, ValueError):  # none, or "max"
            continue
        if quota > 0 and period > 0:
            return math.ceil(quota / period)
    return None


def wanted_threads() -> int | None:
    """``OMP_NUM_THREADS``, by which schedulers and users say how many threads a process should have; 1 to 1024."""
    try:
        return min(max(1, int(os.environ["OMP_NUM_THREADS"].partition(",")[0])), 1024)
    except (KeyError, ValueError):
        return None


def threads_here() -> int:
    """Threads that torch uses in this process."""
    torch = sys.modules.get("torch")  # not worth importing it for this
    return usable_cores() if torch is None else int(torch.get_num_threads())


def share_threads(count: int) -> None:
    """This many threads for torch and for compiled kernels, in a process that has others beside it."""
    import numba
    import torch

    torch.set_num_threads(count)
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]


def user_cache(application: str) -> Path:
    """The folder in which the system keeps an application's cache for this user; it need not exist."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", os.path.expanduser("~"))) / application / "Cache"
    if sys.platform == "darwin":
        return Path(os.path.expanduser("~/Library/Caches")) / application
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / application


def free_memory() -> int | None:
    """Bytes that this process can still take: of the machine, its container, and its own limit; None if unknown."""
    known = [size for size in (_of_machine(), _of_container(), _of_limit()) if size is not None]
    return min(known, default=None)


def _of_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, ValueError, StopIteration):
        return None


def _of_container() -> int | None:
    """What a control group (version 2) leaves."""
    try:
        most, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) for name in ("max", "current"))
    except (OSError, ValueError):  # none, or "max"
        return None
    return max(0, most - used)


def _of_limit() -> int | None:
    """What the limit of address space leaves (``ulimit -v``)."""
    try:
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (ImportError, OSError, ValueError):
        return None
    return None if soft == resource.RLIM_INFINITY else max(0, soft - used)


def require_memory(needed: int, what: str) -> None:
    """Before work that takes ``needed`` bytes. Raises OutOfMemoryError if they cannot be had."""
    free = free_memory()
    if free is not None and needed > free:
        raise OutOfMemoryError(
            f"{what} takes about {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free",
            fix="Use a machine with more memory, or crop the scan to the head.",
        )
