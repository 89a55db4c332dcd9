"""Keep freed memory in the process.

glibc returns large activations to the kernel after every operation, and allocating them again costs page faults; large
batches on a CPU suffer most.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import cache
from typing import Any

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
LARGE = 1 << 25  # voxels: 128 MB as float32


@cache
def keep_memory() -> None:
    """Make glibc reuse freed memory; no effect with another C library. The process stays at its peak size."""
    if libc := _glibc():
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)
        libc.mallopt(M_TOP_PAD, 64 << 20)


def return_memory(voxels: int) -> None:
    """Give what is free back to the kernel, between two stages of a scan so large that keeping it would cost more."""
    if voxels > LARGE and (libc := _glibc()):
        libc.malloc_trim(0)


def _glibc() -> Any:
    if sys.platform.startswith("linux"):
        with suppress(ImportError, OSError):  # a Python without ctypes, or a C library that cannot be opened
            import ctypes

            libc = ctypes.CDLL(None)
            return libc if hasattr(libc, "gnu_get_libc_version") else None
    return None
