"""Packed files, recognised by their first bytes: gzip, bzip2 (standard library), zstd (Python 3.14, or an extra)."""

from __future__ import annotations

import bz2
import zlib
from importlib import import_module
from pathlib import Path
from typing import Any

from uadtk.core.absent import refuse_special
from uadtk.core.errors import BackendError, DataError
from uadtk.io import deflate

AGAIN = "Copy or download the file again."
MOST = 1 << 33  # bytes of an image: 1024^3 voxels in double precision
_BLOCK = 1_000_000  # more than the largest of bzip2
_GZIP, _BZIP2, _ZSTD = b"\x1f\x8b", b"BZh", b"\x28\xb5\x2f\xfd"


def unpacked(path: Path, most: int = MOST) -> bytes:
    """The whole file, unpacked if it is packed, whatever its name says.

    Raises
    ------
    DataError
        Cut short or damaged, or more than ``most`` bytes: a few packed megabytes may stand for a terabyte.
    BackendError
        Packed with zstd, and no library for it is installed.
    """
    if path.stat().st_size > most:
        raise too_large(most)
    content = path.read_bytes()
    if not content.startswith((_GZIP, _BZIP2, _ZSTD)):
        return content
    damage, name = _damage(content), _name(content)
    parts, size = list[bytes](), 0
    try:
        while content:  # of several packed one after the other
            unpacker = deflate.unpacker() if content.startswith(_GZIP) else _unpacker(content)
            parts.append(unpacker.decompress(content, most - size + 1))
            size += len(parts[-1])
            if size > most:
                raise too_large(most)
            if not unpacker.eof:
                raise DataError("is cut short: the compressed data ends too early", fix=AGAIN)
            content = unpacker.unused_data.lstrip(b"\0")
    except damage as error:
        raise DataError(f"has damaged {name} data", fix=AGAIN) from error
    return parts[0] if len(parts) == 1 else b"".join(parts)


def too_large(most: int, fix: str = AGAIN) -> DataError:
    return DataError(f"holds more than the {most / 1e6:.0f} MB that it can need", fix=fix)


def is_packed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4).startswith((_GZIP, _BZIP2, _ZSTD))


def first_bytes(path: Path, count: int) -> bytes:
    """The first ``count`` bytes of the file's content, unpacked; fewer if it is shorter. Raises as ``unpacked``."""
    refuse_special(path)
    with path.open("rb") as file:
        start = file.read(1 << 16)
        if not start:
            raise DataError("is empty (0 bytes)", fix=AGAIN)
        if not start.startswith((_GZIP, _BZIP2, _ZSTD)):
            return start[:count]
        # bzip2 checks a block at its end: only then are bytes in it known to be what was packed
        least = _BLOCK if start.startswith(_BZIP2) else count
        try:
            unpacker, found = _unpacker(start), b""
            while start and len(found) < least and not unpacker.eof:
                found += unpacker.decompress(start, least - len(found))
                start = getattr(unpacker, "unconsumed_tail", b"") or file.read(1 << 16)
        except _damage(start) as error:
            raise DataError(f"has damaged {_name(start)} data", fix=AGAIN) from error
    if len(found) < count and not unpacker.eof:
        raise DataError("is cut short: the compressed data ends within the header", fix=AGAIN)
    return found[:count]


def _unpacker(start: bytes) -> Any:
    if start.startswith(_GZIP):
        return zlib.decompressobj(31)
    return bz2.BZ2Decompressor() if start.startswith(_BZIP2) else _zstd().ZstdDecompressor()


def _zstd() -> Any:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return import_module(name)
        except ImportError:
            continue
    raise BackendError("is packed with zstd", fix='Install it with pip install "uadtk[formats]".')


def _damage(start: bytes) -> tuple[type[Exception], ...]:
    return (*deflate.DAMAGE, OSError, ValueError) + ((_zstd().ZstdError,) if start.startswith(_ZSTD) else ())


def _name(start: bytes) -> str:
    return "gzip" if start.startswith(_GZIP) else "bzip2" if start.startswith(_BZIP2) else "zstd"
