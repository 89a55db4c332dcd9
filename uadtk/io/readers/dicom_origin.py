"""What must be known of the DICOM images of a volume to write results that belong to them: ``Volume.origin``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from uadtk.io.readers.dicom_files import Place
from uadtk.io.readers.dicom_frames import Dataset, Frame, Vector, tag_of

_GROUPS = (0x0008, 0x0010, 0x0012, 0x0018, 0x0020, 0x0032, 0x0038, 0x0040)  # of patient, study, series and equipment
_LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
_GEOMETRY = (
    ("ImageOrientationPatient", "PlaneOrientationSequence"),
    ("PixelSpacing", "PixelMeasuresSequence"),
    ("SliceThickness", "PixelMeasuresSequence"),
)


@dataclass(frozen=True, eq=False)
class Slice:
    """The image of one slice. ``frame`` counts from 1 in a multi-frame image and is None in any other."""

    instance: str
    sop_class: str
    frame: int | None
    position: Vector  # LPS mm


@dataclass(frozen=True, eq=False)
class Origin:
    """``header``: of the first slice, without pixels, private attributes and what cannot be decoded.

    ``slices`` are those of the volume along its third axis. ``spaces``: the frames of reference that they name.
    """

    header: Dataset
    slices: tuple[Slice, ...]
    spaces: frozenset[str]


def origin_of(files: Sequence[tuple[Place, Dataset]], frames: Sequence[Frame]) -> Origin:
    """``frames`` in the order of the slices."""
    slices = tuple(_slice(files[frame.file][1], frame) for frame in frames)
    used = [files[index][1] for index in sorted({frame.file for frame in frames})]
    spaces = frozenset(str(data.get("FrameOfReferenceUID") or "") for data in used)
    return Origin(_header(files[frames[0].file][1], frames[0]), slices, spaces)


def _slice(data: Dataset, frame: Frame) -> Slice:
    several = "NumberOfFrames" in data and "PerFrameFunctionalGroupsSequence" in data
    number = frame.number + 1 if several else None
    return Slice(frame.uid, str(data.get("SOPClassUID") or ""), number, frame.position)


def _header(data: Dataset, frame: Frame) -> Dataset:
    from pydicom import Dataset as Header
    from pydicom.datadict import keyword_for_tag

    header = Header()
    for tag in data.keys():  # noqa: SIM118 - iterating over the data set decodes, and one bad value ends it
        if tag.group in _GROUPS or keyword_for_tag(tag) in _LOSSY:
            with suppress(Exception):  # a value that pydicom cannot decode
                header.add(data[tag])
    for keyword, group in _GEOMETRY:
        if (value := tag_of(data, frame.number, keyword, group)) not in (None, ""):
            setattr(header, keyword, value)
    return header
