"""Keep freed memory in the process.

glibc returns large activations to the kernel after every operation, and allocating them again costs page faults; large
batches on a CPU suffer most.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import cache

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


@cache
def keep_memory() -> None:
    """Make glibc reuse freed memory; no effect with another C library. The process stays at its peak size."""
    if not sys.platform.startswith("linux"):
        return
    with suppress(ImportError, OSError):  # a Python without ctypes, or a C library that cannot be opened
        import ctypes

        libc = ctypes.CDLL(None)
        if hasattr(libc, "gnu_get_libc_version"):
            libc.mallopt(M_MMAP_MAX, 0)
            libc.mallopt(M_TRIM_THRESHOLD, -1)
            libc.mallopt(M_TOP_PAD, 64 << 20)
