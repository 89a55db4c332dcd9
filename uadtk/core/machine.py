"""The machine a process runs on."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """CPU cores this process may use: its affinity where the system has one (Linux), else all of the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    count = getattr(os, "process_cpu_count", os.cpu_count)  # Python 3.13: also honours PYTHON_CPU_COUNT
    return count() or 1
