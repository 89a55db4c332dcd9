"""Gzip by ISA-L, where it is installed: packing takes a tenth of zlib's processor time, unpacking a third.

The same input gives the same bytes while library, version and kind of processor stay the same. Provenance records the
library.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module, metadata
from typing import Any

isal_zlib: Any = None
with suppress(ImportError):  # no wheel for this processor
    isal_zlib = import_module("isal.isal_zlib")

_GZIP = 31  # window bits: with the header of a gzip file, and no time stamp
DAMAGE: tuple[type[Exception], ...] = (zlib.error, *((isal_zlib.error,) if isal_zlib else ()))


def packed(parts: Iterable[bytes | memoryview]) -> bytes:
    """One gzip file."""
    content = b"".join(parts)
    if isal_zlib:
        # in one call: compressobj (isal 1.9.1) gives other bytes for the same content in about 1 of 1,000 files
        compressed: bytes = isal_zlib.compress(content, 1, _GZIP)
        return compressed
    # by run lengths only: for noise beside large areas of zeros twice as fast as full matching, and no larger
    packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP, 9, zlib.Z_RLE)
    return packer.compress(content) + packer.flush()


def unpacker() -> Any:
    """Of a file that is there as a whole: ``decompress``, ``eof`` and ``unused_data`` as zlib has them."""
    return (isal_zlib or zlib).decompressobj(_GZIP)


def library() -> dict[str, str]:
    """Name and version of the library that packs."""
    return {"isal": metadata.version("isal")} if isal_zlib else {"zlib": zlib.ZLIB_RUNTIME_VERSION}
