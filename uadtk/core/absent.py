"""Files that are not there, and why: a link that leads nowhere, or content that was not fetched."""

from __future__ import annotations

import math
from pathlib import Path

from uadtk.core.errors import DataError

DEAD_LINK = "is a link to a file that is not there"
FETCH = "Fetch the file (DataLad: datalad get)."
_POINTERS = ((b"/annex/objects/", "DataLad: datalad get"), (b"version https://git-lfs", "git lfs pull"))


def refuse_special(path: Path, most: float = math.inf) -> None:
    """A pipe or a device is no image or table: reading one waits, or never ends. Nor is what exceeds ``most`` bytes.

    Raises DataError without ``where``.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise DataError("is a pipe, socket or device, not a file", fix="Store it as a file first.")
    if path.is_file() and path.stat().st_size > most:
        raise DataError(f"is too large: more than {most / 1e6:.0f} MB", fix="Is it another file?")


def absence(path: Path) -> tuple[str, str]:
    """Of a file that cannot be found: what it is, and what to do."""
    if path.is_symlink():
        return DEAD_LINK, FETCH
    return "no such file", "Check the path; those in a table are relative to the table's folder."


def why(error: OSError) -> str:
    """Why a file cannot be read."""
    name = error.filename
    if isinstance(name, str | bytes) and Path(_text(name)).is_symlink() and not Path(_text(name)).exists():
        return "a link to a file that is not there; DataLad: datalad get"
    return str(error.strerror or error)


def _text(name: str | bytes) -> str:
    return name if isinstance(name, str) else name.decode(errors="surrogateescape")


def refuse_pointer(path: Path) -> None:
    """Where a file system has no links, and with Git LFS, a small text file stands in for one that was not fetched.

    Raises
    ------
    DataError
        This is such a file. ``where`` is left to the caller.
    """
    with path.open("rb") as file:
        start = file.read(64)
    for mark, how in _POINTERS:
        if start.startswith(mark):
            raise DataError("is a placeholder for a file that was not fetched", fix=f"Fetch the file ({how}).")
