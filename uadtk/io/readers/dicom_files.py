"""DICOM files, wherever they lie: in a folder and its subfolders, in a zip, beside a file of the same series.

They are recognised by content: names and endings mean nothing in DICOM, and the preamble is sometimes missing.
"""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from uadtk.core.errors import BackendError, DataError, UadtkError
from uadtk.io.own import is_own
from uadtk.io.readers.dicom_limits import AGAIN, BESIDE, inflated, refuse_longer
from uadtk.io.write import HIDDEN

_START_BYTES = 144
_ZIP = b"PK\x03\x04"
_DICOMDIR = "1.2.840.10008.1.3.10"
_LISTED = (  # needed to list and choose series
    "SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID ConcatenationUID PatientID PatientName Modality "
    "SeriesNumber SeriesDescription ProtocolName SequenceName PulseSequenceName ImageType EchoTime InversionTime "
    "RepetitionTime MRAcquisitionType NumberOfFrames InstanceNumber "
    "SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence"
)


@dataclass(frozen=True, order=True)
class Place:
    """Where the bytes of one DICOM file are: a file, or a member of a zip."""

    path: Path
    member: str = ""

    def __str__(self) -> str:
        return f"{self.path}, {self.member}" if self.member else str(self.path)

    def open(self, header_only: bool) -> BinaryIO:
        """Of a member of a zip with ``header_only``, no more than its start. Raises as ``refuse_longer``."""
        if not self.member:
            if not header_only:
                with self.path.open("rb") as file:
                    refuse_longer(self.path.stat().st_size, file)
            return self.path.open("rb")
        with _zip(self.path).open(self.member) as member:
            start = io.BytesIO(member.read(BESIDE))
        if header_only:
            return start
        refuse_longer(_zip(self.path).getinfo(self.member).file_size, start)
        return io.BytesIO(_zip(self.path).read(self.member))


@dataclass(frozen=True)
class Header:
    """The attributes of one file that identify its series."""

    place: Place
    tags: Any  # pydicom.Dataset

    def get(self, keyword: str) -> str:
        """As text; empty if it is missing."""
        try:
            value = self.tags.get(keyword)
        except Exception:  # not what the standard asks for, and pydicom has many errors for that
            return ""
        return "" if value is None else str(value).strip()

    @property
    def series(self) -> str:
        return self.get("SeriesInstanceUID")


def is_dicom(path: Path) -> bool:
    """Whether a file, or a zip's content, is DICOM. Needs no library."""
    if not path.is_file():  # opening a pipe would wait
        return False
    start = _first(path)
    return _starts_dicom(start) or (start.startswith(_ZIP) and next(_members(path), None) is not None)


def dicom_places(path: Path) -> list[Place]:
    """All DICOM files of a folder with its subfolders, or of a zip; a file that is DICOM itself. May be empty.

    In a folder, results of ours are left out, wherever they lie: they must not change what a scan consists of.

    Raises
    ------
    DataError
        A zip that is damaged or asks for a password.
    """
    if path.is_dir():
        return sorted(Place(p) for p in _dicom_in(path))
    if not path.is_file():
        return []
    start = _first(path)
    if start.startswith(_ZIP):
        return [Place(path, member) for member in _members(path)]
    return [Place(path)] if _starts_dicom(start) else []


def any_dicom(folder: Path) -> bool:
    """Whether a folder, or one below it, holds DICOM: stops at the first file."""
    return next(_dicom_in(folder), None) is not None


def _dicom_in(folder: Path) -> Iterator[Path]:
    found = (p for p in folder.rglob("*") if p.is_file() and _starts_dicom(_first(p)))
    return (p for p in found if not is_own(p) and not any(part.startswith(HIDDEN) for part in p.parts))


def headers(places: Sequence[Place]) -> list[Header]:
    """The headers of the files, without pixels; a DICOMDIR, which lists the others, is left out.

    Raises as ``dataset``.
    """
    found = [Header(place, dataset(place, _LISTED.split())) for place in places]
    return [header for header in found if header.get("SOPClassUID") != _DICOMDIR and not _is_directory(header)]


def siblings(path: Path) -> list[Header]:
    """The file and those of its folder that belong to it (``volume_of``). A DICOMDIR stands for its folder."""
    (own,) = [Header(Place(path), dataset(Place(path), _LISTED.split()))]
    if own.get("SOPClassUID") == _DICOMDIR or _is_directory(own):
        return headers(dicom_places(path.absolute().parent))
    places = [Place(p) for p in sorted(path.parent.iterdir()) if p.is_file() and _starts_dicom(_first(p))]
    around = headers([place for place in places if place.path != path]) if volume_of(own) != _alone(own) else []
    return [own, *(header for header in around if volume_of(header) == volume_of(own))]


def volume_of(header: Header) -> str:
    """The same for files that belong together: those of a series, but a multi-frame file is a volume by itself.

    Only parts of one concatenation belong together then.
    """
    if header.get("NumberOfFrames") in ("", "0", "1"):
        return header.series
    return header.get("ConcatenationUID") or _alone(header)


def _alone(header: Header) -> str:
    return header.get("SOPInstanceUID") or str(header.place)


def dataset(place: Place, only: Sequence[str] | None = None) -> Any:
    """The file as pydicom reads it; ``only`` these attributes, without pixels, if they are given.

    Raises
    ------
    DataError
        Damaged, or cut short before its pixels.
    BackendError
        pydicom is not installed.
    """
    pydicom = library()
    try:
        with place.open(header_only=only is not None) as file:
            source, tags = inflated(file, header_only=only is not None), None if only is None else [*only]
            data = pydicom.dcmread(source, force=True, stop_before_pixels=only is not None, specific_tags=tags)
    except UadtkError as error:
        error.locate(place)
        raise
    except OSError as error:
        if isinstance(error.__context__, UadtkError):  # of a limit: pydicom catches it and raises another
            error.__context__.locate(place)
            raise error.__context__ from None
        raise
    except Exception as error:
        what = f"a damaged DICOM file ({type(error).__name__}: {error})"
        raise DataError(what, str(place), AGAIN) from error
    data.ensure_file_meta()
    if "TransferSyntaxUID" not in data.file_meta:  # without a preamble: as it was read
        implicit, little = data.original_encoding
        uids = pydicom.uid
        own = uids.ExplicitVRLittleEndian if little else uids.ExplicitVRBigEndian
        data.file_meta.TransferSyntaxUID = uids.ImplicitVRLittleEndian if implicit else own
    return data


def library() -> Any:
    """pydicom. Raises BackendError if it is not installed."""
    try:
        import pydicom
    except ImportError:
        raise BackendError("is DICOM", fix='Install what reads it: pip install "uadtk[dicom]".') from None
    return pydicom


@contextmanager
def using_pydicom() -> Iterator[None]:
    """For reading: :func:`understood`, and a zip is closed at the end."""
    try:
        with understood("DICOM with values that cannot be understood", AGAIN):
            yield
    finally:
        _zip.cache_clear()


@contextmanager
def understood(what: str, fix: str) -> Iterator[None]:
    """pydicom decodes a value when it is asked for, so its errors about damaged ones may come from anywhere.

    They become a DataError with ``what`` and the cause. Its warnings of values that are not as the standard asks are
    left out: those that matter are checked where they are used.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (UadtkError, OSError, MemoryError):
        raise
    except Exception as error:
        raise DataError(f"{what} ({type(error).__name__}: {error})", fix=fix) from error


@using_pydicom()
def series_at(path: Path) -> str:
    """What a DICOM file shares with the others of its volume, whichever comes first (``volume_of``); empty for others.

    Raises as ``dataset``.
    """
    if not path.is_file() or not _starts_dicom(_first(path)):
        return ""
    found = headers([Place(path)])
    return volume_of(found[0]) if found else ""


@lru_cache(maxsize=1)
def _zip(path: Path) -> zipfile.ZipFile:
    """Open while one study is read: the list of a zip's members is long, and costs as much as a slice."""
    return zipfile.ZipFile(path)


def _is_directory(header: Header) -> bool:
    meta = getattr(header.tags, "file_meta", None)
    return meta is not None and str(meta.get("MediaStorageSOPClassUID", "")) == _DICOMDIR


def _first(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_START_BYTES)


def _starts_dicom(start: bytes) -> bool:
    """The preamble's mark, or a first element of group 0002 or 0008 in one of the three encodings."""
    if start[128:132] == b"DICM":
        return True
    if len(start) < 12:
        return False
    for order in "<>":
        group, element, length = struct.unpack_from(f"{order}HHI", start)
        if group in (0x0002, 0x0008) and element <= 0x0100:
            explicit = start[4:6].isalpha() and start[4:6].isupper()
            return explicit or length <= 64
    return False


def _members(path: Path) -> Iterator[str]:
    try:
        with zipfile.ZipFile(path) as packed:
            for info in sorted(packed.infolist(), key=lambda info: info.filename):
                if info.is_dir():
                    continue
                if info.flag_bits & 1:
                    raise DataError("the zip asks for a password", fix="Unpack it first.")
                with packed.open(info) as file:
                    if _starts_dicom(file.read(_START_BYTES)):
                        yield info.filename
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError) as error:
        raise DataError(f"a damaged zip ({error})", fix="Copy or download it again.") from error
