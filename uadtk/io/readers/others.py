"""Other formats, by the libraries that own them: nibabel for MGH, Analyze and MINC, SimpleITK for NRRD and MetaImage.

Each reader takes a path and returns a ``Volume``, or None if the file is of another format, as the hook ``uadtk_read``
does. A missing library is a ``BackendError``: it would meet the next file of the format too.
"""

from __future__ import annotations

import logging
import math
import re
import struct
from collections.abc import Callable
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk.core.absent import refuse_special
from uadtk.core.errors import BackendError, DataError
from uadtk.core.machine import require_memory
from uadtk.core.volume import Header, Volume
from uadtk.io.nifti import pair
from uadtk.io.parts import named_by
from uadtk.io.readers.packed import AGAIN, MOST, first_bytes, is_packed, unpacked

_MGH_BYTES = 284  # of the header
_HEADER_BYTES = 1 << 16  # of NRRD and MetaImage
_BEHIND = 1 << 26  # bytes that may follow the voxels
_MOST_MINC1 = 1 << 29  # of a packed file, whose header does not bound it: 512^3 voxels of 32 bits
_MOST_MAT = 1 << 16  # it holds two affines, and may be packed
_GUESS = "left and right may be swapped: check them, or convert it to NIfTI with its orientation"
_SPACES = {  # of NRRD: those whose axes ITK knows
    *("right-anterior-superior", "ras", "left-anterior-superior", "las", "left-posterior-superior", "lps"),
}


def read_mgh(path: Path) -> Volume | None:
    """FreeSurfer's .mgz and .mgh."""
    if not re.search(r"\.(mgz|mgh|mgh\.gz)$", path.name, re.IGNORECASE):
        return None
    import nibabel as nib

    _, *sizes, _ = struct.unpack(">6i", first_bytes(path, _MGH_BYTES)[:24].ljust(24, b"\0"))
    if not all(0 < size < 1 << 16 for size in sizes):  # of text, for one
        raise DataError(f"is damaged, or not of the format its name implies (sizes {sizes})", fix=AGAIN)
    voxels = math.prod(sizes)
    require_memory(12 * voxels, "reading it")
    content = unpacked(path, _MGH_BYTES + 4 * voxels + _BEHIND)
    image = _loaded(lambda: nib.MGHImage.from_bytes(content))
    placed = int.from_bytes(content[28:30], "big") == 1  # goodRASFlag, which nibabel repairs
    return _volume(image, () if placed else (f"the file does not place the patient (goodRASFlag 0): {_GUESS}",))


def read_analyze(path: Path) -> Volume | None:
    """Analyze 7.5 pairs, .hdr with .img, as SPM wrote them: with a .mat file, orientation is known."""
    if not re.search(r"\.(hdr|img)(\.gz)?$", path.name, re.IGNORECASE):
        return None
    import nibabel as nib

    kind: Any = nib.Spm2AnalyzeImage
    header, voxels = pair(path)
    if not kind.header_class.may_contain_header(first_bytes(header, 348)):
        return None
    if not voxels.exists():
        raise DataError("is a header without its .img file", fix="Keep the .hdr and .img files together.")
    stem = re.sub(r"\.(hdr|img)(\.gz)?$", "", path.name, flags=re.IGNORECASE)
    affines = path.with_name(f"{stem}.mat")
    if affines.exists():
        refuse_special(affines)
        if affines.stat().st_size > _MOST_MAT:
            raise DataError(f"its {affines.name} is too large for an affine", fix="Is it of another program?")
    image = _loaded(lambda: kind.from_filename(path))
    if (np.asarray(image.header["dim"][1:4]) < 1).any() or (np.asarray(image.header["pixdim"][1:4]) == 0).any():
        raise DataError("has a corrupt header (shape or spacing of 0)", fix=AGAIN)
    note = f"Analyze 7.5 does not say which side is left (axes are taken for LAS): {_GUESS}"
    return _volume(image, () if affines.exists() else (note,))


def read_minc(path: Path) -> Volume | None:
    """MINC 1 (netCDF) and MINC 2 (HDF5, needs h5py)."""
    if not re.search(r"\.(mnc|mnc2)(\.gz)?$", path.name, re.IGNORECASE):
        return None
    import nibabel as nib

    hdf = first_bytes(path, 4).startswith(b"\x89HDF")
    if hdf and find_spec("h5py") is None:
        raise _missing("MINC 2", "h5py")
    if hdf:
        refused = _loaded(lambda: _elsewhere(path))
        if refused:
            raise DataError("its voxels are in another file", fix="Copy it with its voxels (mincreshape).")
    two, one = nib.minc2.Minc2Image, nib.minc1.Minc1Image
    content = b"" if hdf else unpacked(path, _MOST_MINC1 if is_packed(path) else MOST)
    holders = {"image": nib.FileHolder(str(path), BytesIO(content))}
    return _volume(_loaded(lambda: two.from_filename(path) if hdf else one.from_file_map(holders)), ())


def _elsewhere(path: Path) -> bool:
    """Whether voxels of HDF5 come from other files, which may be pipes."""
    import h5py

    with h5py.File(path, "r") as file:
        image = file["minc-2.0/image/0/image"]
        return bool(image.external or image.is_virtual or image.file.filename != file.filename)


def read_nrrd(path: Path) -> Volume | None:
    """NRRD (.nrrd, .nhdr)."""
    start = _start(path)
    if not start.startswith(b"NRRD"):
        return None
    if len(start) == _HEADER_BYTES and not re.search(rb"\r?\n\r?\n", start):
        raise DataError("is damaged: its header does not end", fix=AGAIN)
    fields = dict(re.findall(r"^([\w ]+):=?\s*(.*?)\s*$", start.split(b"\n\n")[0].decode("latin-1"), re.MULTILINE))
    space = fields.get("space", "").lower()
    if space and space not in _SPACES:
        raise DataError(f"has the space '{space}', which names no patient axes", fix="Convert it to NIfTI.")
    units = set(re.findall(r'"([^"]*)"', fields.get("space units", ""))) - {"mm", ""}
    if units:
        raise DataError(f"is measured in {', '.join(sorted(units))}, not mm", fix="Convert it to mm.")
    note = f"the file does not name its space (axes are taken for LPS): {_GUESS}"
    return _by_itk(path, () if space and "space directions" in fields else (note,))


def read_metaimage(path: Path) -> Volume | None:
    """MetaImage (.mha, .mhd)."""
    if not re.search(r"\.(mha|mhd)$", path.name, re.IGNORECASE):
        return None
    fields = dict(re.findall(r"^[ \t]*(\w+)\s*[=:]\s*(.*?)\s*$", _start(path).decode("latin-1"), re.MULTILINE))
    for needed in ("NDims", "ElementDataFile"):
        if needed not in fields:
            raise DataError(f"is no MetaImage: its header has no {needed}", fix=AGAIN)
    if fields.get("DistanceUnits", "mm").lower() not in ("mm", "?", ""):
        raise DataError(f"is measured in {fields['DistanceUnits']}, not mm", fix="Convert it to mm.")
    placed = {"TransformMatrix", "Rotation", "Orientation"} & fields.keys()
    note = f"the file does not place the patient (axes are taken for LPS): {_GUESS}"
    return _by_itk(path, () if placed else (note,))


def _loaded(load: Callable[[], Any]) -> Any:
    """By nibabel, whose messages about repaired headers are suppressed."""
    import nibabel as nib

    level = nib.imageglobals.logger.level
    nib.imageglobals.logger.setLevel(logging.CRITICAL + 1)
    try:
        return load()
    except OSError as error:
        if error.errno is not None:
            raise
        raise DataError(f"is damaged or cut short ({error})", fix=AGAIN) from error
    except Exception as error:
        raise DataError(f"is damaged, or not of the format its name implies ({_words(error)})", fix=AGAIN) from error
    finally:
        nib.imageglobals.logger.setLevel(level)


def _volume(image: Any, notes: tuple[str, ...]) -> Volume:
    """The only frame of a nibabel image; ``notes`` if its orientation is a guess."""
    shape = tuple(int(n) for n in image.shape)
    if len(shape) < 3:
        raise DataError(f"has {len(shape)} axes, not three", fix="Stack its slices into one volume first.")
    if (frames := math.prod(shape[3:])) > 1:
        raise DataError(f"holds {frames} volumes, not one", fix="Extract one first.")
    if image.get_data_dtype().kind not in "iuf":
        raise DataError("has colour or complex voxels, not one number per voxel", fix="Convert it to a grey image.")
    if image.affine is None:
        raise DataError("has no place in space", fix="Convert it to NIfTI.")
    require_memory(12 * math.prod(shape), "reading it")
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # infinite values are refused by the caller
            voxels = np.asarray(image.dataobj).astype(np.float32).reshape(shape[:3], order="F")
    except Exception as error:
        raise DataError(f"is damaged or cut short ({_words(error)})", fix=AGAIN) from error
    return _placed(voxels, image.affine, notes)


def _by_itk(path: Path, notes: tuple[str, ...]) -> Volume:
    try:
        import SimpleITK as sitk
    except ImportError:
        raise _missing("NRRD or MetaImage", "SimpleITK") from None
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    for part in named_by(path):
        if part.name == "-" or (part.exists() and not part.is_file()):  # standard input, a pipe, a device
            raise DataError(f"its voxels are in {part.name}, which is no file", fix="Store them in a file beside it.")
    try:
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        require_memory(12 * math.prod(reader.GetSize()), "reading it")
        image: Any = reader.Execute()
    except UnicodeEncodeError:
        raise DataError("SimpleITK opens no file whose name is not UTF-8", fix="Rename it.") from None
    except RuntimeError as error:
        raise DataError(f"is damaged, or cut short ({_words(error)})", fix=AGAIN) from error
    if image.GetNumberOfComponentsPerPixel() != 1 or "complex" in image.GetPixelIDTypeAsString():
        raise DataError("has colour or complex voxels, not one number per voxel", fix="Convert it to a grey image.")
    dims = image.GetDimension()
    if dims < 3 or math.prod(image.GetSize()[3:]) > 1:
        what = f"has {dims} axes, not three" if dims < 3 else f"holds {math.prod(image.GetSize()[3:])} volumes, not one"
        raise DataError(what, fix="Make one volume of three axes of it first.")
    affine = np.eye(4)
    axes = np.array(image.GetDirection()).reshape(dims, dims)[:3, :3]
    affine[:3, :3] = axes * np.array(image.GetSpacing()[:3])
    affine[:3, 3] = image.GetOrigin()[:3]
    affine[:2] *= -1  # LPS to RAS
    with np.errstate(over="ignore", invalid="ignore"):
        voxels = sitk.GetArrayViewFromImage(image).T.reshape(image.GetSize()[:3], order="F").astype(np.float32)
    return _placed(voxels, affine + 0.0, notes)


def _missing(what: str, library: str) -> BackendError:
    return BackendError(f"is {what}, and {library} is not installed", fix='Install it: pip install "uadtk[formats]".')


def _start(path: Path) -> bytes:
    refuse_special(path)
    with path.open("rb") as file:
        return file.read(_HEADER_BYTES)


def _words(error: Exception) -> str:
    """The last line of an error, where ITK and nibabel state the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][-200:] if lines else type(error).__name__


READERS: tuple[Callable[[Path], Volume | None], ...] = (read_mgh, read_analyze, read_minc, read_nrrd, read_metaimage)


def _placed(voxels: NDArray[Any], affine: Any, notes: tuple[str, ...]) -> Volume:
    """With ``notes`` the orientation is a guess, and outputs must not claim it."""
    if not notes:
        return Volume(voxels, affine)
    return Volume(voxels, affine, header=Header(0, 0), notes=notes, facts={"Orientation": "unknown"})
