"""How much a DICOM file may unpack to, checked before it is unpacked: kilobytes can stand for gigabytes.

Two things in a file are packed: everything behind its first group (Deflated Explicit VR Little Endian), and pixels. A
decoder of pixels allocates what the packed image states, whatever size the attributes state.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from uadtk.core.errors import DataError
from uadtk.core.machine import require_memory

BESIDE = 1 << 24
"""Bytes that may lie before the pixels, and as many behind them."""
AGAIN = "Copy or export the file again."
_SIZES = ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "BitsAllocated")
_J2K, _JP2, _JPEG = b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP", b"\xff\xd8"
_FRAME_HEADERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # of JPEG and JPEG-LS: they state the size


def inflated(file: BinaryIO, header_only: bool) -> BinaryIO:
    """The file as it is; if it is deflated, the same data set without that, up to its pixels or as a whole.

    Raises DataError if it holds more than its attributes require, or is cut short; other errors are those of damage.
    """
    from pydicom.filereader import read_preamble
    from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

    read_preamble(file, force=True)
    meta = _first_group(file)
    if str(meta.get("TransferSyntaxUID", "")) != DeflatedExplicitVRLittleEndian:
        file.seek(0)
        return file
    packed = file.read()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    start = _joined(meta, zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, BESIDE))
    if header_only:
        return start
    most = _most(start)
    require_memory(2 * min(most, 1032 * len(packed)), "unpacking it")  # deflate packs no better
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    content = unpacker.decompress(packed, most)
    if not unpacker.eof and len(content) == most:
        raise _too_large(most)
    if not unpacker.eof:
        raise DataError("is cut short: the deflated data ends too early", fix=AGAIN)
    return _joined(meta, content)


def refuse_longer(size: int, start: BinaryIO) -> None:
    """A member of a zip that unpacks to ``size`` bytes and begins with ``start``. Raises as ``inflated``."""
    if size > BESIDE and size > (most := _most(inflated(start, header_only=True))):
        raise _too_large(most)
    require_memory(2 * size, "unpacking it")


def _most(start: BinaryIO) -> int:
    from pydicom.filereader import dcmread

    tags = dcmread(start, force=True, stop_before_pixels=True, specific_tags=[*_SIZES])
    return 2 * BESIDE + pixel_bytes(tags)


def _too_large(most: int) -> DataError:
    return DataError(f"holds more than the {most / 1e6:.0f} MB that it can need", fix=AGAIN)


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


def _first_group(file: BinaryIO) -> Any:
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
