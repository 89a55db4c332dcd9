"""The machine a process runs on."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def usable_cores() -> int:
    """CPU cores this process may use: its affinity where the system has one (Linux), else all of the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    count = getattr(os, "process_cpu_count", os.cpu_count)  # Python 3.13: also honours PYTHON_CPU_COUNT
    return count() or 1


def user_cache(application: str) -> Path:
    """The folder in which the system keeps an application's cache for this user; it need not exist."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", os.path.expanduser("~"))) / application / "Cache"
    if sys.platform == "darwin":
        return Path(os.path.expanduser("~/Library/Caches")) / application
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / application
