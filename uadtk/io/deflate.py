"""Gzip by zlib-ng, where it is installed: packing and unpacking take less than half of zlib's processor time.

By run lengths only, as most of these images are noise beside large areas of zeros: twice as fast as full matching, and
no larger. Without a table of earlier matches, the same input gives the same bytes each time, as long as library and
version stay the same. (ISA-L, which is faster still, does not: about one file of 1,000 differed.) Provenance records
the library.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from importlib import import_module, metadata
from typing import Any

zlib_ng: Any = None
with suppress(ImportError):  # no wheel for this processor
    zlib_ng = import_module("zlib_ng.zlib_ng")

_GZIP = 31  # window bits: with the header of a gzip file, and no time stamp
DAMAGE: tuple[type[Exception], ...] = (zlib.error, *((zlib_ng.error,) if zlib_ng else ()))


def packed(parts: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """One gzip file, in parts."""
    packer = (zlib_ng or zlib).compressobj(1, zlib.DEFLATED, _GZIP, 9, zlib.Z_RLE)
    yield from (packer.compress(part) for part in parts)
    yield packer.flush()


def unpacker() -> Any:
    """Of a file that is there as a whole: ``decompress``, ``eof`` and ``unused_data`` as zlib has them."""
    return (zlib_ng or zlib).decompressobj(_GZIP)


def library() -> dict[str, str]:
    """Name and version of the library that packs."""
    return {"zlib-ng": _installed()} if zlib_ng else {"zlib": zlib.ZLIB_RUNTIME_VERSION}


@cache
def _installed() -> str:
    return metadata.version("zlib-ng")
