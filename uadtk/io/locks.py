"""Locks on folders between processes, and what makes writing outlast a loss of power."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Hold a lock that the system releases if the process dies; False if another process holds it or locks are missing.

    A lock rather than a process number: numbers are reused and mean nothing in another container.
    """
    try:
        import fcntl
    except ImportError:
        yield False
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            sure = True
        except OSError:
            sure = False
        yield sure
    finally:
        os.close(descriptor)


def flush(file: Path) -> None:
    """Flush the file's content to disk."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def flush_folder(folder: Path) -> None:
    """Flush renames to disk, where the system supports it."""
    with suppress(OSError):  # Windows cannot open folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
