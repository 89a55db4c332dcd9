"""NIfTI-1 and NIfTI-2 files, single (.nii, .nii.gz) or in pairs (.hdr with .img), told by content, not by name.

nibabel reads the header. The voxels are taken from the bytes here: one buffer, straight to float32, and every way in
which a file can be cut short has one message.
"""

from __future__ import annotations

import gzip
import logging
import math
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk.core.absent import DEAD_LINK, FETCH
from uadtk.core.errors import DataError
from uadtk.core.volume import Volume

_AGAIN = "Copy or download the file again."
_GZIP = b"\x1f\x8b"
_HEADER_BYTES = 540  # NIfTI-2; NIfTI-1 has 348


def read_nifti(path: Path) -> Volume | None:
    """Voxels as float32 with slope and intercept applied, Fortran order; None if the file is no NIfTI.

    Raises
    ------
    DataError
        Cut short, damaged, corrupt header, several frames, colour or complex voxels, impossible spacing. ``where`` is
        left to the caller.
    """
    found = _header(path)
    if found is None:
        return None
    header, data = found
    grid = _grid(header)
    dtype, start = _layout(header)
    content = _content(data)
    needed = start + math.prod(grid.shape) * dtype.itemsize
    if len(content) < needed:
        raise DataError(f"is cut short: its header promises {needed} bytes, it has {len(content)}", fix=_AGAIN)
    stored = np.frombuffer(content, dtype, math.prod(grid.shape), start).reshape(grid.shape, order="F")
    return Volume(_scaled(stored, header), grid.affine)


def read_grid(path: Path) -> Volume | None:
    """The file's grid with every voxel 0, from its header alone; None if the file is no NIfTI."""
    found = _header(path)
    return None if found is None else _grid(found[0])


def _header(path: Path) -> tuple[Any, Path] | None:
    """A checked header and the file that holds its voxels; None if it is no NIfTI header."""
    import nibabel as nib

    head, data = _pair(path)
    start = _start(head)
    kinds: tuple[Any, ...] = (nib.Nifti1Header, nib.Nifti2Header)
    kind = next((k for k in kinds if k.may_contain_header(start)), None)
    if kind is None:
        return None
    header = kind(start[: kind.sizeof_hdr], check=False)
    if header["magic"].item() == header.single_magic:
        data = head
    elif data.is_symlink() and not data.exists():
        raise DataError(f"its file {data.name} {DEAD_LINK}", fix=FETCH)
    elif data == head or not data.exists():
        raise DataError("is a header without its .img file", fix="Keep the .hdr and .img files together.")
    unset = bool((header["pixdim"][1:4] == 0).any())
    try:
        # nibabel's own logger would write each repaired oddity to stderr.
        header.check_fix(logger=logging.Logger("quiet", logging.CRITICAL + 1), error_level=40)
    except nib.spatialimages.HeaderDataError as error:
        raise DataError(f"has a corrupt header ({error})", fix=_AGAIN) from error
    if unset and header["sform_code"] == 0:  # check_fix has made it 1 mm without a word
        raise DataError("spacing of 0 mm is impossible for a brain scan", fix="Repair the header (pixdim).")
    return header, data


def _pair(path: Path) -> tuple[Path, Path]:
    """The files for header and voxels: the same file, unless the name ends in .hdr or .img."""
    match = re.fullmatch(r"(.*\.)(hdr|img|HDR|IMG)((?:\.gz)?)", path.name)
    if not match:
        return path, path
    stem, suffix, packed = match.groups()
    twin = {"hdr": "img", "img": "hdr", "HDR": "IMG", "IMG": "HDR"}
    other = path.with_name(f"{stem}{twin[suffix]}{packed}")
    head, data = (path, other) if suffix.lower() == "hdr" else (other, path)
    if head.is_symlink() and not head.exists() and head != path:
        raise DataError(f"its header file {head.name} {DEAD_LINK}", fix=FETCH)
    if not head.exists():
        raise DataError(f"its header file {head.name} is missing", fix="Keep the .hdr and .img files together.")
    return head, data


def _start(path: Path) -> bytes:
    """The first bytes of what is in the file, unpacked."""
    with path.open("rb") as file:
        start = file.read(1 << 16)
    if not start:
        raise DataError("is empty (0 bytes)", fix=_AGAIN)
    if not start.startswith(_GZIP):
        return start[:_HEADER_BYTES]
    try:
        unpacker = zlib.decompressobj(31)
        unpacked = unpacker.decompress(start, _HEADER_BYTES)
    except zlib.error as error:
        raise DataError("has damaged gzip data", fix=_AGAIN) from error
    if len(unpacked) < 348 and not unpacker.eof:
        raise DataError("is cut short: the compressed data ends within the header", fix=_AGAIN)
    return unpacked


def _content(path: Path) -> bytes:
    """The whole file, unpacked if it is packed, whatever its name says."""
    content = path.read_bytes()
    if not content.startswith(_GZIP):
        return content
    try:
        return gzip.decompress(content)
    except EOFError as error:
        raise DataError("is cut short: the compressed data ends too early", fix=_AGAIN) from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise DataError("has damaged gzip data", fix=_AGAIN) from error


def _grid(header: Any) -> Volume:
    import nibabel as nib

    try:
        shape = tuple(int(n) for n in header.get_data_shape())
        affine = header.get_best_affine()
    except (nib.spatialimages.HeaderDataError, ValueError) as error:
        raise DataError(f"has a corrupt header ({error})", fix=_AGAIN) from error
    if min(shape, default=0) < 1:
        raise DataError(f"has a corrupt header (shape {shape})", fix=_AGAIN)
    if len(shape) < 3:
        raise DataError(f"has {len(shape)} axes, not three", fix="Stack its slices into one volume first.")
    if (frames := math.prod(shape[3:])) > 1:
        raise DataError(f"holds {frames} volumes, not one", fix="Extract one first: fslroi IN OUT 0 1.")
    return Volume(np.broadcast_to(np.float32(0), shape[:3]), affine)


def _layout(header: Any) -> tuple[np.dtype[Any], int]:
    """Voxel type as stored, and where the voxels start."""
    dtype = np.dtype(header.get_data_dtype())
    if dtype.kind not in "iuf":
        kind = "complex" if dtype.kind == "c" else "colour"
        raise DataError(f"has {kind} voxels, not one number per voxel", fix="Convert it to a plain grey image first.")
    offset = float(header["vox_offset"])
    if not (math.isfinite(offset) and offset >= 0):
        raise DataError(f"has a corrupt header (voxels start at {offset:g})", fix=_AGAIN)
    if offset == 0 and header["magic"].item() == header.single_magic:
        return dtype, header.single_vox_offset
    return dtype, int(offset)


def _scaled(stored: NDArray[Any], header: Any) -> NDArray[np.float32]:
    import nibabel as nib

    try:
        slope, inter = header.get_slope_inter()
    except nib.spatialimages.HeaderDataError as error:
        raise DataError(f"has a corrupt header ({error})", fix=_AGAIN) from error
    # Values too large for float32 become infinite, which the caller refuses with their place.
    with np.errstate(over="ignore", invalid="ignore"):
        if slope is None or (slope, inter) == (1.0, 0.0):
            return stored.astype(np.float32)
        # float32 holds 16-bit integers exactly, so its rounding stays far below one stored step. Wider ones need more.
        values: NDArray[Any] = stored.astype(np.float32 if stored.dtype.itemsize <= 2 else np.float64)
        values *= slope
        values += inter
        return values.astype(np.float32, copy=False)
