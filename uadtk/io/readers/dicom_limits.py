"""How much a DICOM file may unpack to, and how many parts it may have: kilobytes can stand for gigabytes.

Two things in a file are packed: everything behind its first group (Deflated Explicit VR Little Endian), and pixels. A
decoder of pixels allocates what the packed image states, whatever size the attributes state. And pydicom takes a
minute to parse 16 MB of empty items of sequences.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from uadtk.core.errors import DataError
from uadtk.core.machine import require_memory
from uadtk.io.readers.packed import too_large

BESIDE = 1 << 24
"""Bytes that may lie before the pixels, and as many behind them."""
MOST_PARTS = 1_000_000
"""Reads of a file: those of a header of 5,000 frames with 30 attributes each. pydicom makes as many in 3 to 7 s."""
AGAIN = "Copy or export the file again."
_SIZES = ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "BitsAllocated")
_J2K, _JP2, _JPEG = b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP", b"\xff\xd8"
_ITEM, _BIG_ENDIAN_ITEM = b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00"  # tags that items of sequences begin with
_FRAME_HEADERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # of JPEG and JPEG-LS: they state the size


class Counted:
    """A file of which no more than ``MOST_PARTS`` and ``most`` bytes may be read: DataError is raised then.

    pydicom makes one to three reads an element. A sequence of a stated length it reads at once, and parses it when it
    is asked for: its items count as four reads each, which take as long.
    """

    def __init__(self, file: BinaryIO, most: float) -> None:
        self.seek, self.tell = file.seek, file.tell
        self._file, self._parts, self._bytes = file, MOST_PARTS, most

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        self._parts -= 1 + 4 * (content.count(_ITEM) + content.count(_BIG_ENDIAN_ITEM))
        self._bytes -= len(content)
        if self._parts < 0 or self._bytes < 0:
            raise DataError("its header is larger than that of any scan", fix=AGAIN)
        return content


def inflated(file: BinaryIO, header_only: bool) -> Any:
    """The file as it is, counted; if it is deflated, the same data set without that, up to its pixels or as a whole.

    Raises DataError if it holds more than its attributes require, or is cut short; other errors are those of damage.
    """
    from pydicom.filereader import read_preamble
    from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

    most_bytes = BESIDE if header_only else math.inf
    counted: Any = Counted(file, most_bytes)
    read_preamble(counted, force=True)
    meta = _first_group(counted)
    if str(meta.get("TransferSyntaxUID", "")) != DeflatedExplicitVRLittleEndian:
        file.seek(0)
        return counted
    packed = file.read()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    start = Counted(_joined(meta, zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, BESIDE)), BESIDE)
    if header_only:
        return start
    most = _most(start)
    require_memory(2 * min(most, 1032 * len(packed)), "unpacking it")  # deflate packs no better
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    content = unpacker.decompress(packed, most)
    if not unpacker.eof and len(content) == most:
        raise too_large(most, AGAIN)
    if not unpacker.eof:
        raise DataError("is cut short: the deflated data ends too early", fix=AGAIN)
    return Counted(_joined(meta, content), most_bytes)


def refuse_longer(size: int, start: BinaryIO) -> None:
    """A file of ``size`` bytes, unpacked if it is in a zip, that begins with ``start``. Raises as ``inflated``."""
    if size > BESIDE and size > (most := _most(inflated(start, header_only=True))):
        raise too_large(most, AGAIN)
    require_memory(2 * size, "reading it")


def _most(start: Any) -> int:
    from pydicom.filereader import dcmread

    tags = dcmread(start, force=True, stop_before_pixels=True, specific_tags=[*_SIZES])
    return 2 * BESIDE + pixel_bytes(tags)


def pixel_bytes(data: Any) -> int:
    """Of the pixels, unpacked, as the attributes state it."""
    rows, columns, samples, frames, bits = (int(data.get(keyword) or 1) for keyword in _SIZES)
    return rows * columns * samples * frames * bits // 8


def refuse_other_sizes(data: Any) -> None:
    """Packed pixels must state the size that the attributes state. Raises DataError, or as pydicom for damage."""
    from pydicom.encaps import generate_frames

    require_memory(6 * pixel_bytes(data), "reading its pixels")
    if not data.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    frames = int(data.get("NumberOfFrames") or 1)
    wanted = int(data.Columns), int(data.Rows), int(data.get("SamplesPerPixel") or 1)
    tables = [data.get(f"ExtendedOffsetTable{end}") for end in ("", "Lengths")]
    extended = tuple(tables) if all(tables) else None
    for frame in generate_frames(data.PixelData, number_of_frames=frames, extended_offsets=extended):
        for found in _stated(frame):
            if found != wanted:
                shown = [" x ".join(map(str, size[: 2 + (size[2] != 1)])) for size in (found, wanted)]
                raise DataError(f"its packed pixels are of {shown[0]}, its header is of {shown[1]}", fix=AGAIN)
        if len(frame) > 2 * (pixel_bytes(data) // frames) + (1 << 16):  # run lengths may unpack to 64 times as much
            raise DataError("its packed pixels are larger than unpacked ones", fix=AGAIN)


def _stated(frame: bytes) -> Iterator[tuple[int, int, int]]:
    """Columns, rows and samples by the packed image itself; nothing for run lengths, which state none."""
    if frame.startswith((_J2K, _JP2)):
        place = frame.find(_J2K)
        while place >= 0:
            x, y, left, top = struct.unpack_from(">4I", frame, place + 8)
            (samples,) = struct.unpack_from(">H", frame, place + 40)
            yield x - left, y - top, samples
            place = -1 if frame.startswith(_J2K) else frame.find(_J2K, place + 1)
    elif frame.startswith(_JPEG):
        yield _jpeg_size(frame)


def _jpeg_size(frame: bytes) -> tuple[int, int, int]:
    place = 2
    while True:
        place = frame.index(b"\xff", place)
        kind, length = struct.unpack_from(">xBH", frame, place)
        if kind in _FRAME_HEADERS:
            rows, columns, samples = struct.unpack_from(">5xHHB", frame, place)
            return columns, rows, samples
        alone = kind in (0x01, 0xFF) or 0xD0 <= kind <= 0xD8  # a marker without a length, or a byte that fills
        place += (1 if kind == 0xFF else 2) if alone else 2 + length


def _first_group(file: Any) -> Any:
    """As pydicom reads it."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.filereader import read_dataset

    start = file.tell()
    for implicit in (False, True):
        file.seek(start)
        meta = FileMetaDataset(read_dataset(file, implicit, True, stop_when=lambda tag, *_: tag.group != 2))
        try:
            for tag in list(meta.keys())[:1]:
                meta[tag]
            return meta
        except NotImplementedError:  # of an encoding that is none
            continue
    return meta


def _joined(meta: Any, content: bytes) -> BinaryIO:
    from pydicom.filewriter import write_file_meta_info

    file: Any = io.BytesIO()
    file.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(file, meta, enforce_standard=False)
    file.write(content)
    file.seek(0)
    return file
