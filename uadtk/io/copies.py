"""Copies of a scan in a cohort: they count twice in every pooled number, and leak test data between splits."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Hashable, Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np

from uadtk.core.errors import DataError
from uadtk.core.volume import Scan
from uadtk.io.masks import grid_of
from uadtk.io.rows import Cohort, Row, same_file

_CHUNK = 1 << 20


def refuse_copies(cohort: Cohort, across_splits: bool = False) -> None:
    """For every use that pools the scans of a cohort; with ``across_splits`` for the table they come from.

    Two names of one file are found by the file. Two files with one content are found by length and checksum, which
    packed files end with, and then compared byte for byte, unpacked: nothing else is read.

    Raises
    ------
    DataError
        An image is there twice, by path, link or content (``across_splits``: in two splits).
    """
    rows = [row for row in cohort if row.split or not across_splits]
    if across_splits and len({row.split for row in rows}) < 2:
        return
    _refuse(((same_file(row.image), row) for row in rows), "are one file", cohort.source, across_splits)
    for size in _groups((_size(row.image), row) for row in rows):
        for same in _groups((_checksum(row.image), row) for row in size):
            digests = ((_digest(row.image), row) for row in same)
            _refuse(digests, "have the same content", cohort.source, across_splits)


class Distinct:
    """Finds a scan that was read before, in whatever format: the same voxels at the same place."""

    def __init__(self) -> None:
        self._seen: dict[str, Row] = {}

    def check(self, row: Row, digest: str) -> None:
        """Raises DataError if ``digest_of_scan`` is that of an earlier row; only the first counts."""
        first = self._seen.setdefault(digest, row)
        if first is not row:
            raise DataError(f"is the same scan as {first.image}", str(row.image), "Keep one of the two in the table.")


def digest_of_scan(scan: Scan) -> str:
    """SHA-256 of voxels and affine."""
    digest = hashlib.sha256(np.ascontiguousarray(scan.voxels).data)
    digest.update(scan.affine.astype(np.float32).tobytes())
    return digest.hexdigest()


def _refuse(items: Iterable[tuple[Hashable, Row]], how: str, source: str, across_splits: bool) -> None:
    for copies in _groups(items):
        rows = [row for row in copies if not _will_fail(row)]
        if not rows:
            continue
        first = rows[0]
        second = next((row for row in rows[1:] if row.split != first.split or not across_splits), None)
        if second is None:
            continue
        splits = f" (splits '{first.split}' and '{second.split}')" if first.split != second.split else ""
        raise DataError(
            f"{first.image} of subject '{first.subject}' and {second.image} of '{second.subject}' {how}{splits}",
            source,
            "Keep one of the two: the same scan must not count twice.",
        )


def _will_fail(row: Row) -> bool:
    """A row whose image or masks cannot be read is not pooled; its own error is the one to report."""
    if not os.path.isdir(row.image) and _digest(row.image) is None:
        return True
    grid = grid_of(row.image)
    found = [(mask, grid_of(mask)) for mask in (row.brain_mask, row.lesion_mask) if mask]
    return any(
        not os.path.exists(mask) or (grid is not None and own is not None and not grid.same_grid(own))
        for mask, own in found
    )


def _groups(items: Iterable[tuple[Hashable, Row]]) -> Iterator[list[Row]]:
    """The rows that share a key, where several do; None is no key."""
    found: dict[Hashable, list[Row]] = {}
    for key, row in items:
        if key is not None:
            found.setdefault(key, []).append(row)
    return (rows for rows in found.values() if len(rows) > 1)


def _size(path: Path) -> int | None:
    """Unpacked, modulo 2^32; None if the file cannot be read, which fails its row when it is used."""
    try:
        if not os.path.isfile(path):  # a folder, or a pipe, which would wait
            return None
        with path.open("rb") as file:
            if file.read(2) != b"\x1f\x8b":
                return path.stat().st_size % (1 << 32)
            file.seek(-4, 2)
            return int.from_bytes(file.read(4), "little")
    except OSError:
        return None


def _checksum(path: Path) -> int | None:
    try:
        with path.open("rb") as file:
            if file.read(2) == b"\x1f\x8b":
                file.seek(-8, 2)
                return int.from_bytes(file.read(4), "little")
            file.seek(0)
            checksum = 0
            while chunk := file.read(_CHUNK):
                checksum = zlib.crc32(chunk, checksum)
            return checksum
    except OSError:
        return None


def _digest(path: Path) -> str | None:
    try:
        stat = path.stat()
        return _sha256(path, stat.st_size, stat.st_mtime_ns)
    except (OSError, EOFError, zlib.error):
        return None


@cache
def _sha256(path: Path, _size: int, _changed: int) -> str:
    """Of the file's content, unpacked."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else path.open("rb") as content:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
