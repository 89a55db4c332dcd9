"""The files that an image consists of: what a digest must cover, and what must have stopped growing.

Most images are one file. Others are a header that names or implies its voxels (NIfTI and Analyze pairs, NRRD,
MetaImage), or a DICOM file that stands for its series.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from uadtk import registry
from uadtk.io.memo import sha256_of
from uadtk.io.readers import knows
from uadtk.io.readers.dicom_files import Place, dicom_places, siblings, using_pydicom

_PAIR = re.compile(r"(.*)\.(?:hdr|img)(\.(?:gz|bz2|zst))?", re.IGNORECASE)
_DETACHED = re.compile(r".*\.(nhdr|nrrd|mhd|mha)", re.IGNORECASE)
_NAMES = re.compile(r"^[ \t]*(?:data ?file:|ElementDataFile *[=:])[ \t]*(.*?)[ \t\r]*$", re.IGNORECASE | re.MULTILINE)
_COUNTED = re.compile(r"([^%\s]*%\d{0,2}d[^%\s]*) +(\d{1,6}) +(\d{1,6}) +(\d{1,6}).*")
_HEADER_BYTES = 1 << 20


def parts_of(path: Path) -> list[Path]:
    """The existing files that reading an image, or a folder of DICOM, reads; sorted. Other files of a folder are none.

    Raises OSError, and as the reader of DICOM for headers of a series that cannot be read.
    """
    if path.is_dir():
        return [place.path for place in dicom_places(path)]
    if not path.is_file():
        return [path]
    halves = halves_of(path)
    return sorted(_series(path)) if halves == [path] and dicom_places(path) == [Place(path)] else halves


def halves_of(path: Path) -> list[Path]:
    """The same of a file that is not DICOM. Raises OSError."""
    if pair := _PAIR.fullmatch(path.name):
        endings = {f".{ending}{pair[2] or ''}".lower() for ending in ("hdr", "img")} | {".mat"}
        there = {path.with_name(f"{pair[1]}{cased}") for ending in endings for cased in (ending, ending.upper())}
        return sorted({path, *(one for one in there if one.is_file())})
    return sorted({path, *_detached(path)}) if _DETACHED.fullmatch(path.name) else [path]


def image_sha256(path: Path) -> str:
    """Of the bytes of all its parts; of one that is a single file, of its bytes. Raises as ``parts_of``."""
    folder = path if path.is_dir() else path.parent
    parts = parts_of(path)
    if parts == [path]:
        return sha256_of(path)
    lines = (f"{os.path.relpath(part, folder)} {sha256_of(part)}" for part in parts)
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def read_by(paths: Iterable[Path | None]) -> dict[str, str]:
    """The plugins, with versions, of which one may read one of the images; none if uadtk's own readers know them all.

    What is stored of an image depends on them as on its bytes.
    """
    there = registry.readers()
    return there if there and any(path.exists() and not knows(path) for path in paths if path) else {}


@using_pydicom()
def _series(path: Path) -> set[Path]:
    return {path, *(header.place.path for header in siblings(path))}


def _detached(path: Path) -> set[Path]:
    return {place for place in named_by(path) if place.is_file()}


def named_by(path: Path) -> set[Path]:
    """What a header of NRRD or MetaImage names, there or not: a file, a counted series, or a list until its end."""
    with path.open("rb") as file:
        start = file.read(_HEADER_BYTES).partition(b"\n\n")[0]  # voxels may follow
    found = _NAMES.search(start.decode("latin-1"))
    if found is None or found[1].upper() == "LOCAL":
        return set()
    names = [found[1]]
    if found[1].upper().startswith("LIST"):
        text = start[found.end() :].decode(errors="surrogateescape")
        names = [line.strip() for line in text.splitlines()]
    elif counted := _COUNTED.fullmatch(found[1]):
        first, last, step = (int(number) for number in counted.groups()[1:])
        names = [counted[1] % number for number in range(first, last + 1, max(1, step))]
    return {path.parent / name for name in names if name and "\0" not in name}
