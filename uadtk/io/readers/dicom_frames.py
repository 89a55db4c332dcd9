"""The frames of DICOM images, classic or enhanced multi-frame: place, spacing, scaling and kind of each.

Coordinates are DICOM's here, LPS in mm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk.core.errors import BackendError, DataError, UadtkError
from uadtk.io.readers.dicom_files import Place
from uadtk.io.readers.dicom_limits import AGAIN, refuse_other_sizes

Vector = NDArray[np.float64]
Dataset = Any  # pydicom.Dataset

# Attributes that may distinguish frames at one position: name; attribute and functional group in enhanced files;
# attribute in classic ones.
_KINDS = (
    ("echo times", "EffectiveEchoTime", "MREchoSequence", "EchoTime"),
    ("inversion times", "InversionTimes", "MRModifierSequence", "InversionTime"),
    ("b-values", "DiffusionBValue", "MRDiffusionSequence", "DiffusionBValue"),
    ("time points", "TemporalPositionIndex", "FrameContentSequence", "TemporalPositionIdentifier"),
    ("trigger times", "NominalCardiacTriggerDelayTime", "CardiacSynchronizationSequence", "TriggerTime"),
    ("stacks", "StackID", "FrameContentSequence", "StackID"),
    ("image types", "FrameType", "MRImageFrameTypeSequence", "ImageType"),
    ("acquisitions", "FrameAcquisitionNumber", "FrameContentSequence", "AcquisitionNumber"),
    ("acquisition times", "FrameAcquisitionDateTime", "FrameContentSequence", "AcquisitionTime"),
)
_COMPONENTS = {
    **dict.fromkeys(("M", "MAGNITUDE"), "magnitude"),
    **dict.fromkeys(("P", "PHASE", "PHASE MAP"), "phase"),
    **dict.fromkeys(("R", "REAL"), "real"),
    **dict.fromkeys(("I", "IMAGINARY"), "imaginary"),
}
MOST_FRAMES, MOST_VALUES = 10_000, 100  # of one file; of one attribute: a longer one is looked at as far as this
_GE_COMPONENTS = {0: "magnitude", 1: "phase", 2: "real", 3: "imaginary"}


@dataclass(frozen=True, eq=False)
class Frame:
    """One slice: frame ``number`` of file ``file``.

    ``axes`` (2, 3) are the directions in which columns and rows are counted, ``spacing_mm`` the steps along them.
    ``scale`` is slope and intercept; ``philips`` the scale slope of Philips, if there is one. ``kinds`` are the
    attributes that distinguish frames at one position. ``depth_mm``: spacing between slices and slice thickness as
    the file states them, 0 if it does not.
    """

    file: int
    number: int
    place: Place
    size: tuple[int, int]
    position: Vector
    axes: Vector
    spacing_mm: tuple[float, float]
    depth_mm: tuple[float, float]
    scale: tuple[float, float]
    philips: float | None
    component: str
    kinds: Mapping[str, str]
    uid: str
    instance: int | None

    @property
    def normal(self) -> Vector:
        across: Vector = np.cross(self.axes[0], self.axes[1])
        return across


def frames_of(files: Sequence[tuple[Place, Dataset]]) -> list[Frame]:
    """The frames of the files of one series.

    Raises
    ------
    DataError
        Colour, a look-up table in place of a scale, or no place in the patient.
    """
    frames: list[Frame] = []
    for index, (place, data) in enumerate(files):
        try:
            frames += _frames(index, place, data)
        except UadtkError:
            raise
        except Exception as error:
            raise DataError(f"a damaged DICOM header ({error})", str(place), AGAIN) from error
    return _on_one_scale(frames)


def pixels_of(place: Place, data: Dataset) -> NDArray[Any]:
    """(frames, rows, columns) as stored, decompressed, without the bits that are not the image's.

    Raises
    ------
    DataError
        Cut short, damaged, or compressed in a way nothing decompresses.
    BackendError
        A library that decompresses it is missing.
    """
    try:
        refuse_other_sizes(data)
        stored = data.pixel_array
    except UadtkError as error:
        error.locate(place)
        raise
    except Exception as error:
        raise _undecoded(place, data, error) from error
    stored = stored.reshape(-1, *stored.shape[-2:])
    allocated, kept = stored.dtype.itemsize * 8, int(data.BitsStored)
    high = int(data.get("HighBit", kept - 1))
    if stored.dtype.kind in "iu" and 0 < kept <= high + 1 <= allocated:
        stored = (stored << (allocated - high - 1)) >> (allocated - kept)  # old files keep overlays in the other bits
    return stored


def _frames(index: int, place: Place, data: Dataset) -> Iterator[Frame]:
    if int(data.get("SamplesPerPixel") or 1) != 1:
        raise DataError("a colour image, not one number per voxel", str(place), "Name the original series.")
    if "ModalityLUTSequence" in data:
        raise DataError("intensities come through a look-up table", str(place), "Export it with a rescale slope.")
    count = int(data.get("NumberOfFrames") or 1)
    if count > MOST_FRAMES:
        raise DataError(
            f"{count} frames, more than a scan has", str(place), "Export one volume as a series of its own."
        )
    groups = data.get("PerFrameFunctionalGroupsSequence")
    if count > 1 and (groups is None or len(groups) != count):
        raise DataError(
            f"{count} frames without the place of each in the patient",
            str(place),
            "Export it as enhanced MR or as single slices.",
        )
    philips, component = _philips(data), _ge_component(data)
    for number in range(count):
        frame = _frame(index, number, place, data)
        yield replace(frame, philips=frame.philips or philips, component=frame.component or component)


def _frame(index: int, number: int, place: Place, data: Dataset) -> Frame:
    """Without what the file says of all of its frames in private attributes: looking for those takes time."""
    position = _numbers(data, number, "ImagePositionPatient", "PlanePositionSequence", 3)
    axes = _numbers(data, number, "ImageOrientationPatient", "PlaneOrientationSequence", 6)
    steps = _numbers(data, number, "PixelSpacing", "PixelMeasuresSequence", 2)
    missing = [
        name
        for name, value in (("position", position), ("orientation", axes), ("pixel spacing", steps))
        if value is None
    ]
    if position is None or axes is None or steps is None:
        what = f"the image has no place in the patient: no {', no '.join(missing)}"
        raise DataError(what, str(place), "Export the original series, not a screenshot or a secondary capture.")
    axes = axes.reshape(2, 3)
    if not np.allclose(axes @ axes.T, np.eye(2), atol=1e-3):
        raise DataError("row and column directions are not at right angles", str(place), AGAIN)
    axes = axes / np.linalg.norm(axes, axis=1, keepdims=True)
    kinds = {name: text_of(tag_of(data, number, *rest)) for name, *rest in _KINDS}
    instance = data.get("InstanceNumber")
    return Frame(
        file=index,
        number=number,
        place=place,
        size=(int(data.Rows), int(data.Columns)),
        position=position,
        axes=axes,
        spacing_mm=(float(steps[1]), float(steps[0])),  # DICOM's first number is between rows
        depth_mm=(_mm(data, number, "SpacingBetweenSlices"), _mm(data, number, "SliceThickness")),
        scale=_scale(data, number, place),
        philips=_philips(*_private_items(data, number)),
        component=_component(data, number),
        kinds=kinds,
        uid=str(data.get("SOPInstanceUID", "")),
        instance=None if instance in (None, "") else int(instance),
    )


def tag_of(data: Dataset, number: int, keyword: str, group: str, classic: str = "") -> Any:
    """An attribute of a frame: from its functional group, the one shared by all, or the file; None if missing."""
    per_frame, shared = data.get("PerFrameFunctionalGroupsSequence"), data.get("SharedFunctionalGroupsSequence")
    for holder in (per_frame[number] if per_frame else None, shared[0] if shared else None, data):
        items = None if holder is None else holder.get(group)
        if items and keyword in items[0]:
            return items[0].get(keyword)
    return data.get(classic or keyword)


def _numbers(data: Dataset, number: int, keyword: str, group: str, count: int) -> Vector | None:
    value = tag_of(data, number, keyword, group)
    if value is None or value == "" or len(value) != count:
        return None
    numbers = np.array([float(v) for v in value])
    return numbers if np.isfinite(numbers).all() else None


def _mm(data: Dataset, number: int, keyword: str) -> float:
    value = tag_of(data, number, keyword, "PixelMeasuresSequence")
    return abs(float(value)) if value not in (None, "") and math.isfinite(float(value)) else 0.0


def text_of(value: Any) -> str:
    """Values of one attribute, comparable and readable: ``92``, ``ORIGINAL\\PRIMARY``."""
    if value is None:
        return ""
    if isinstance(value, (int, float)):
        return f"{float(value):g}"
    return str(value) if isinstance(value, str | bytes) else "\\".join(text_of(v) for v in value[:MOST_VALUES])


def _scale(data: Dataset, number: int, place: Place) -> tuple[float, float]:
    """Slope and intercept: the rescale values, else those of real-world values, else none."""
    found = [tag_of(data, number, k, "PixelValueTransformationSequence") for k in ("RescaleSlope", "RescaleIntercept")]
    if found[0] in (None, ""):
        names = ("RealWorldValueSlope", "RealWorldValueIntercept")
        found = [tag_of(data, number, name, "RealWorldValueMappingSequence") for name in names]
    slope, intercept = (d if v in (None, "") else float(v) for v, d in zip(found, (1.0, 0.0), strict=True))
    if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
        raise DataError(f"a rescale slope of {slope:g} and intercept of {intercept:g}", str(place), AGAIN)
    return slope, intercept


def _private_items(data: Dataset, number: int) -> list[Dataset]:
    """What Philips says of a frame in private: an item, or none."""
    per_frame = data.get("PerFrameFunctionalGroupsSequence")
    found = per_frame[number].get((0x2005, 0x140F)) if per_frame else None
    return list(found.value[:1]) if found else []


def _philips(*holders: Dataset) -> float | None:
    """The private scale slope."""
    for holder in holders:
        with suppress(KeyError, ValueError, TypeError):
            return float(holder.private_block(0x2005, "Philips MR Imaging DD 001")[0x0E].value) or None
    return None


def _on_one_scale(frames: list[Frame]) -> list[Frame]:
    """Philips may scale each slice for display; then only its private slope makes them comparable.

    (stored * slope + intercept) / (slope * private slope), Chenevert et al. 2014. Where slope * private slope is the
    same in all slices, the two scalings differ by one factor, and DICOM's own is kept.
    """
    products = [frame.scale[0] * frame.philips for frame in frames if frame.philips]
    if len(products) < len(frames) or not products or max(products) - min(products) <= 1e-5 * abs(max(products)):
        return frames
    return [
        replace(frame, scale=(frame.scale[0] / product, frame.scale[1] / product))
        for frame, product in zip(frames, products, strict=True)
    ]


def _component(data: Dataset, number: int) -> str:
    """magnitude, phase, real or imaginary; empty if unknown."""
    named = tag_of(data, number, "ComplexImageComponent", "MRImageFrameTypeSequence")
    values = [named] if named else list((data.get("ImageType") or [])[2:MOST_VALUES])
    return next((_COMPONENTS[str(v).upper()] for v in values if str(v).upper() in _COMPONENTS), "")


def _ge_component(data: Dataset) -> str:
    with suppress(KeyError, ValueError, TypeError):
        return _GE_COMPONENTS.get(int(data.private_block(0x0043, "GEMS_PARM_01")[0x2F].value), "")
    return ""


def _undecoded(place: Place, data: Dataset, error: Exception) -> BackendError | DataError:
    syntax = getattr(getattr(data, "file_meta", None), "TransferSyntaxUID", None)
    if syntax is not None and getattr(syntax, "is_compressed", False):
        from pydicom.pixels import get_decoder

        try:
            decoder = get_decoder(syntax)
        except NotImplementedError:
            return DataError(f"compressed as {syntax.name}, which pydicom does not read", str(place), "Decompress it.")
        if not decoder.is_available:
            fix = 'Install what decompresses it: pip install "uadtk[dicom]".'
            return BackendError(f"is compressed as {syntax.name}", str(place), fix)
    return DataError(f"the pixels are cut short or damaged ({error})", str(place), AGAIN)
