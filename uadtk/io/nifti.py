"""NIfTI-1 and NIfTI-2 files, single (.nii, .nii.gz) or pairs (.hdr with .img), recognised by content, not by name.

nibabel reads the header. The voxels are decoded here, directly to float32 with a single buffer, with one error message
for all kinds of truncated files.
"""

from __future__ import annotations

import logging
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk.core.absent import DEAD_LINK, FETCH
from uadtk.core.errors import DataError
from uadtk.core.machine import require_memory
from uadtk.core.volume import Volume
from uadtk.io.orientation import choose_affine
from uadtk.io.readers.packed import AGAIN, first_bytes, is_packed, unpacked
from uadtk.kernels._box import fill, zeros

_BEHIND = 1 << 26  # bytes that may follow the voxels
_HEADER_BYTES = 540  # NIfTI-2; NIfTI-1 has 348


def read_nifti(path: Path, trust: str = "") -> Volume | None:
    """Voxels as float32 with slope and intercept applied, in Fortran order; None if the file is not NIfTI.

    Raises
    ------
    DataError
        Truncated, damaged, corrupt header, several volumes, colour or complex voxels, impossible spacing. The caller
        adds ``where``.
    """
    found = _header(path)
    if found is None:
        return None
    header, data = found
    grid = _grid(header, trust)
    dtype, start = _layout(header)
    voxels = math.prod(grid.shape)
    needed, size = start + voxels * dtype.itemsize, data.stat().st_size
    if not is_packed(data) and size < needed:
        raise DataError(f"is cut short: its header requires {needed} bytes, it has {size}", fix=AGAIN)
    require_memory(voxels * (dtype.itemsize + 8), "reading it")
    content = unpacked(data, needed + _BEHIND)
    if len(content) < needed:
        raise DataError(f"is cut short: its header requires {needed} bytes, it has {len(content)}", fix=AGAIN)
    stored = np.frombuffer(content, dtype, math.prod(grid.shape), start).reshape(grid.shape, order="F")
    return Volume(_scaled(stored, header), grid.affine, header=grid.header, notes=grid.notes)


def read_grid(path: Path, trust: str = "") -> Volume | None:
    """The file's grid with all voxels 0, from its header alone; None if the file is not NIfTI."""
    found = _header(path)
    return None if found is None else _grid(found[0], trust)


def _header(path: Path) -> tuple[Any, Path] | None:
    """A validated header and the file with its voxels; None if it is not a NIfTI header."""
    import nibabel as nib

    head, data = pair(path)
    start = first_bytes(head, _HEADER_BYTES)
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
    stated_bits = int(header["bitpix"])
    unset = bool((header["pixdim"][1:4] == 0).any())
    try:
        # nibabel's own logger would report each repaired field on stderr.
        header.check_fix(logger=logging.Logger("quiet", logging.CRITICAL + 1), error_level=40)
    except (nib.spatialimages.HeaderDataError, ValueError, OverflowError) as error:  # nibabel's own messages fail, too
        raise DataError(f"has a corrupt header ({error})", fix=AGAIN) from error
    bits = header.get_data_dtype().itemsize * 8
    if stated_bits != bits and stated_bits in (8, 16, 32, 64):  # nibabel has repaired it, but one of the two is wrong
        raise DataError(f"has a corrupt header (its type has {bits} bits a voxel, bitpix is {stated_bits})", fix=AGAIN)
    if unset and header["sform_code"] > 0:  # nothing that the sform could contradict
        header["pixdim"][1:4] = np.linalg.norm(header.get_sform()[:3, :3], axis=0)
    if unset and header["sform_code"] == 0:  # check_fix has silently set it to 1 mm
        raise DataError("spacing of 0 mm is impossible for a brain scan", fix="Repair the header (pixdim).")
    return header, data


def pair(path: Path) -> tuple[Path, Path]:
    """The files for header and voxels: the same file, unless the name ends in .hdr or .img."""
    match = re.fullmatch(r"(.*\.)(hdr|img|HDR|IMG)((?:\.(?:gz|bz2|zst))?)", path.name)
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


def _grid(header: Any, trust: str) -> Volume:
    import nibabel as nib

    try:
        shape = tuple(int(n) for n in header.get_data_shape())
        affine, claims, notes = choose_affine(header, trust)
    except (nib.spatialimages.HeaderDataError, ValueError) as error:
        raise DataError(f"has a corrupt header ({error})", fix=AGAIN) from error
    if min(shape, default=0) < 1:
        raise DataError(f"has a corrupt header (shape {shape})", fix=AGAIN)
    if len(shape) < 3:
        raise DataError(f"has {len(shape)} axes, not three", fix="Stack its slices into one volume first.")
    if (frames := math.prod(shape[3:])) > 1:
        raise DataError(f"holds {frames} volumes, not one", fix="Extract one first: fslroi IN OUT 0 1.")
    return Volume(np.broadcast_to(np.float32(0), shape[:3]), affine, claims, notes)


def _layout(header: Any) -> tuple[np.dtype[Any], int]:
    """The stored voxel type and the offset of the voxels."""
    dtype = np.dtype(header.get_data_dtype())
    if dtype.kind not in "iuf":
        kind = "complex" if dtype.kind == "c" else "colour"
        raise DataError(f"has {kind} voxels, not one number per voxel", fix="Convert it to a grey-scale image first.")
    offset = float(header["vox_offset"])
    if not (math.isfinite(offset) and offset >= 0):
        raise DataError(f"has a corrupt header (voxels start at {offset:g})", fix=AGAIN)
    if offset == 0 and header["magic"].item() == header.single_magic:
        return dtype, header.single_vox_offset
    return dtype, int(offset)


def _scaled(stored: NDArray[Any], header: Any) -> NDArray[np.float32]:
    import nibabel as nib

    try:
        slope, inter = header.get_slope_inter()
    except nib.spatialimages.HeaderDataError as error:
        raise DataError(f"has a corrupt header ({error})", fix=AGAIN) from error
    plain = slope is None or (slope, inter) == (1.0, 0.0)
    # float32 is exact for 16-bit integers, so rounding stays far below one stored step; wider types need float64.
    exact = np.float32 if stored.dtype.itemsize <= 2 else np.float64
    found = zeros(stored.shape[::-1], np.float32)
    # Values too large for float32 become infinite, which the caller reports with their position.
    with np.errstate(over="ignore", invalid="ignore"):
        for plane, target in zip(stored.T, found, strict=True):
            if not plain:
                plane = plane.astype(exact)
                plane *= slope
                plane += inter
            fill(target, plane)
    return found.T
