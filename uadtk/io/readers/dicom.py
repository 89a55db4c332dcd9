"""DICOM: the folder of a series or of a study, a zip of one, a file of a series (its siblings come along).

pydicom reads the files; this module decides which of them make up the scan. Of a study with several series the FLAIR is
read, chosen by tags (``dicom_series``). Slices are ordered by their positions (``dicom_stack``). Anything but one
regular volume of one series is refused: a scan that lacks a slice looks like any other.

``Volume.facts`` of a scan read from DICOM are the tags that describe its acquisition; ``Volume.origin`` is what results
need that are written as DICOM.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk.core.errors import DataError, UadtkError
from uadtk.core.machine import require_memory
from uadtk.core.volume import Volume
from uadtk.io.readers.dicom_files import (
    Header,
    Place,
    any_dicom,
    dataset,
    dicom_places,
    headers,
    is_dicom,
    siblings,
    using_pydicom,
    volume_of,
)
from uadtk.io.readers.dicom_frames import Frame, frames_of, pixels_of
from uadtk.io.readers.dicom_origin import origin_of
from uadtk.io.readers.dicom_series import choose, facts_of, series_of, subject_of
from uadtk.io.readers.dicom_stack import refuse_incomplete, stack


@using_pydicom()
def read(path: Path) -> Volume | None:
    """The scan; None if there is no DICOM.

    Raises
    ------
    DataError
        No MR image, no FLAIR among several series, or no regular volume.
    BackendError
        pydicom, or what decompresses the images, is not installed.
    """
    found = _headers(path)
    if not found:
        return None
    series, notes = choose(series_of(found))
    try:
        volume = _volume([header.place for header in series.headers])
    except UadtkError as error:
        if error.where or not notes:
            raise
        raise type(error)(f"series {series.label}: {error.what}", fix=error.fix) from error
    return replace(volume, notes=(*notes, *volume.notes))


@dataclass(frozen=True)
class Study:
    """One scan: its subject, the path to pass to ``read`` and, if that is a file, an identifier of its volume."""

    subject: str
    path: Path
    volume: str = ""


@using_pydicom()
def studies_in(path: Path) -> list[Study]:
    """The DICOM studies of a folder or a zip, or the series of a file; empty if there is none. Each is one scan.

    Two files of one series have the same ``volume``: ``uadtk segment series/*.dcm`` names one scan.

    Raises
    ------
    DataError
        A zip of several studies, or studies mixed in one folder of which one has no series that can be chosen.
    """
    if not (any_dicom(path) if path.is_dir() else is_dicom(path)):
        return []
    places = dicom_places(path)
    found = headers(places)
    if not found and not path.is_dir():  # a DICOMDIR
        path = path.absolute().parent
        found = headers(dicom_places(path))
    elif not found:
        return []
    elif places == [Place(path)]:
        return [Study(subject_of(found[0]), path, volume_of(found[0]))]
    studies: dict[str, list[Header]] = defaultdict(list)
    for header in found:
        studies[header.get("StudyInstanceUID")].append(header)
    if len(studies) == 1:
        return [Study(subject_of(found[0]), _folder_of(found) if path.is_dir() else path)]
    if not path.is_dir():
        raise DataError(f"holds {len(studies)} studies", str(path), "Unpack it and name the folder.")
    whole = {header.place.path for header in found}
    return [Study(subject_of(files[0]), _own_path(files, whole, path)) for files in studies.values()]


def _own_path(files: Sequence[Header], whole: set[Path], root: Path) -> Path:
    """The folder of the study if it lies below ``root`` and has files of this study alone, else a file of its FLAIR."""
    own, folder = {header.place.path for header in files}, _folder_of(files)
    if folder != root and all(path in own for path in whole if folder in path.parents):
        return folder
    series, _ = choose(series_of(files))
    return series.headers[0].place.path


def _folder_of(files: Sequence[Header]) -> Path:
    """The lowest that holds all of them: the same, whichever studies there are beside it."""
    folder = files[0].place.path.parent
    while not all(folder in header.place.path.parents for header in files):
        folder = folder.parent
    return folder


def _headers(path: Path) -> list[Header]:
    if path.is_dir():
        return headers(dicom_places(path))
    if not is_dicom(path):
        return []
    places = dicom_places(path)
    return siblings(path) if places == [Place(path)] else headers(places)


def _volume(places: Sequence[Place]) -> Volume:
    files = [(place, dataset(place)) for place in places]
    files, notes = _distinct(files)
    frames = frames_of(files)
    stacked = stack(frames)
    more = refuse_incomplete(frames, stacked.frames, files[0][1])
    voxels = _voxels(files, stacked.frames)
    if str(files[0][1].get("PhotometricInterpretation", "")) == "MONOCHROME1":
        voxels = voxels.max() - voxels
        notes = [*notes, "MONOCHROME1, low values are bright: intensities were inverted"]
    notes, origin = [*notes, *stacked.notes, *more], origin_of(files, stacked.frames)
    return Volume(voxels, stacked.affine, notes=tuple(notes), facts=facts_of(files[0][1]), origin=origin)


def _distinct(files: list[tuple[Place, Any]]) -> tuple[list[tuple[Place, Any]], list[str]]:
    """Each instance once. Raises DataError if two files claim to be the same one and differ."""
    seen: dict[str, tuple[Place, Any]] = {}
    for place, data in files:
        uid = str(data.get("SOPInstanceUID", "")) or str(place)
        first = seen.setdefault(uid, (place, data))
        if first[0] != place and not _same_pixels(first, (place, data)):
            what = f"the same instance as {first[0].member or first[0].path.name} with other pixels"
            raise DataError(what, str(place), "Keep the right one.")
    left = len(files) - len(seen)
    return list(seen.values()), [f"ignored {left} files that are copies of others"] if left else []


def _same_pixels(one: tuple[Place, Any], other: tuple[Place, Any]) -> bool:
    if one[1].get("PixelData") == other[1].get("PixelData"):
        return True
    return np.array_equal(pixels_of(*one), pixels_of(*other))  # stored in two ways


def _voxels(files: Sequence[tuple[Place, Any]], frames: Sequence[Frame]) -> NDArray[np.float32]:
    """(columns, rows, slices), scaled."""
    rows, columns = frames[0].size
    require_memory(12 * rows * columns * len(frames), "reading it")
    voxels = np.empty((columns, rows, len(frames)), dtype=np.float32, order="F")
    wanted: dict[int, list[int]] = defaultdict(list)
    for k, frame in enumerate(frames):
        wanted[frame.file].append(k)
    for index, slices in wanted.items():
        place, data = files[index]
        stored = pixels_of(place, data)
        for k in slices:
            if stored.shape[1:] != (rows, columns) or frames[k].number >= len(stored):
                what = f"the pixels are cut short: {len(stored)} frames of {stored.shape[1:]}"
                raise DataError(what, str(place), "Export it again.")
            slope, intercept = frames[k].scale
            plane = stored[frames[k].number].T
            exact = (slope, intercept) == (1.0, 0.0)
            voxels[:, :, k] = plane if exact else plane.astype(np.float64) * slope + intercept
    return voxels
