"""Allocator settings: glibc returns large freed activations to the kernel after every operation, and the page faults of
allocating them again are costly, most of all with large batches on a CPU."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


@cache
def keep_memory() -> None:
    """Make glibc retain freed memory; no effect elsewhere. The process stays at its peak size."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)
        libc.mallopt(M_TOP_PAD, 64 << 20)
