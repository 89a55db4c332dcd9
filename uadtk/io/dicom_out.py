"""Results as DICOM: segmentation (SEG), measurement report (SR, TID 1500) and picture (SC), in the patient's study.

Patient, study, frame of reference and geometry are those of the images that the scan was read from, and dates, too: the
same scan and options give the same bytes and UIDs, so that sending a result twice stores it once. highdicom writes.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from uadtk.core.errors import BackendError, DataError
from uadtk.core.finding import Finding, Segmentation
from uadtk.core.volume import Scan
from uadtk.io.readers.dicom_files import understood
from uadtk.io.write import write_bytes
from uadtk.version import USE, VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from uadtk.io.readers.dicom_origin import Origin

Kind = Literal["seg", "sr", "sc"]
Picture = NDArray[np.uint8]  # (rows, columns, 3)
MOST_SEGMENTS = 255
"""Viewers list segments one by one: of more findings, the smallest share the last segment."""

_MR = "1.2.840.10008.5.1.4.1.1.4"
_BLANK = "PatientID PatientName PatientBirthDate PatientSex AccessionNumber StudyID StudyDate StudyTime"
_LONGEST_MODEL = 56  # characters: "uadtk MODEL" goes where DICOM allows 64
_NO_DATE, _NO_TIME = "19000101", "000000"
_OPTIONS = "--dicom-seg, --dicom-sr and --dicom-sc"
_REFUSED = ("no DICOM can be written for it, by its headers", f"Repair them, or leave out {_OPTIONS}.")


@dataclass(frozen=True)
class Segment:
    """One finding, or the smallest of many together."""

    number: int
    name: str
    volume_ml: float
    peak: float
    lobe: str = ""  # as in ``Finding``


@dataclass(frozen=True, eq=False)
class Content:
    """What is written, and by which model. ``labels`` (slices, rows, columns): the number of the segment, or 0."""

    origin: Origin
    labels: NDArray[np.uint8]
    step_mm: float
    segments: tuple[Segment, ...]
    findings: int
    volume_ml: float
    model: str
    weights: str  # digest
    point: str
    light: str

    @property
    def parameters(self) -> list[str]:
        return [f"model={self.model}", f"operating point={self.point}", f"gate={self.light}", USE]

    @property
    def description(self) -> str:
        return f"uadtk {self.model[:24]}: lesions (research use only)"

    def identity(self) -> dict[str, Any]:
        """Of the program, as highdicom names it."""
        return {
            "manufacturer": "uadtk",
            "manufacturer_model_name": f"uadtk {self.model}".strip(),
            "software_versions": VERSION,
            "device_serial_number": self.weights[:16] or "0",
        }

    @cached_property
    def slices(self) -> dict[int, list[int]]:
        """Those that each segment is in."""
        found = defaultdict[int, list[int]](list)
        for index, plane in enumerate(self.labels):
            for number in np.unique(plane[plane > 0]).tolist():
                found[number].append(index)
        return found

    def dates(self) -> tuple[str, str]:
        """Date and time of the content: those of the images, for the same bytes at any time."""
        for name in ("Content", "Acquisition", "Series", "Study"):
            date, time = (str(self.origin.header.get(f"{name}{part}") or "") for part in ("Date", "Time"))
            if date:
                return date, time or _NO_TIME
        return _NO_DATE, _NO_TIME

    def series_number(self, kind: Kind) -> int:
        own = self.origin.header.get("SeriesNumber")
        return min(max(int(own or 0), 0), 10**6) * 100 + {"seg": 91, "sr": 92, "sc": 93}[kind]

    def uid(self, purpose: str) -> str:
        """Another one for each content and purpose."""
        return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{self._digest} {purpose}').int}"

    @cached_property
    def _digest(self) -> str:
        import highdicom

        slices = [(one.instance, one.frame, one.position.tolist()) for one in self.origin.slices]
        made = (VERSION, highdicom.__version__, self.parameters, self.weights)
        voxels = hashlib.sha256(self.labels.tobytes()).hexdigest()
        key = repr((self.origin.header.to_json(), slices, self.step_mm, self.segments, voxels, made))
        return hashlib.sha256(key.encode()).hexdigest()


def kinds_of(seg: bool, sr: bool, sc: bool = False) -> tuple[Kind, ...]:
    """What is written: a report refers to the segments, so they come with it."""
    wanted: dict[Kind, bool] = {"seg": seg or sr, "sr": sr, "sc": sc}
    return tuple(kind for kind, asked in wanted.items() if asked)


def refuse_unwritable(scan: Scan, kinds: Collection[Kind]) -> None:
    """Before any work: whether results of this scan can be written as DICOM.

    Raises
    ------
    DataError
        It was not read from DICOM, or its headers lack what results need. ``where`` is left to the caller.
    BackendError
        highdicom is not installed.
    """
    if not kinds:
        return
    origin = _origin(scan)
    x, y, z = scan.shape
    one = np.zeros((z, y, x), np.uint8)
    one[0, 0, 0] = 1
    first = (Segment(1, "Finding 1", 0.0, 0.0),)
    trial = Content(origin, one, _step(scan), first, 1, 0.0, "", "", "", "green")
    with understood(*_REFUSED):
        _packed(trial, kinds, np.zeros((1, 1, 3), np.uint8))  # what the libraries refuse in these headers


def write_dicom(
    result: Segmentation, kinds: Collection[Kind], paths: Mapping[str, Path], picture: Picture | None = None
) -> None:
    """Write ``paths["dicom_seg"]`` and so on; without findings, there is no segmentation to write.

    ``picture``: of ``sc``, axial planes in radiological convention.

    Raises as ``refuse_unwritable``.
    """
    _origin(result.scoring.scan)
    with understood(*_REFUSED):
        packed = _packed(content_of(result), kinds, picture)
    for kind, data in packed.items():
        write_bytes(paths[f"dicom_{kind}"], data)


def require_highdicom() -> None:
    """Raises BackendError if it is not installed."""
    try:
        import highdicom  # noqa: F401
    except ImportError:
        fix = 'Install what writes it: pip install "uadtk[dicom]".'
        raise BackendError("DICOM output needs highdicom", fix=fix) from None


def content_of(result: Segmentation) -> Content:
    """Findings become segments of the same numbers; of more than ``MOST_SEGMENTS``, the smallest share the last."""
    options, checkpoint = (result.provenance.get(key, {}) for key in ("options", "checkpoint"))
    findings, scan = result.findings, result.scoring.scan
    return Content(
        origin=scan.origin,
        labels=np.minimum(result.components.zyx, MOST_SEGMENTS).astype(np.uint8),
        step_mm=_step(scan),
        segments=_segments(findings),
        findings=len(findings),
        volume_ml=result.total_ml,
        model=_ascii(options.get("model", {}).get("name", ""))[:_LONGEST_MODEL],
        weights=str(checkpoint.get("digest", "")),
        point=_ascii(f"{result.point.name}, score > {result.point.threshold:.6g}"),
        light=result.gate.light,
    )


def source_images(content: Content) -> list[Any]:
    """A header per slice, as of single-frame images: what highdicom copies patient, study and geometry from.

    Those of a multi-frame image have UIDs of their own; ``dicom_seg`` replaces them in references.
    """
    from pydicom.valuerep import DSfloat

    header, (_, rows, columns) = content.origin.header, content.labels.shape
    blank = {name: "" for name in _BLANK.split() if name not in header}
    if str(header.get("PatientSex")) not in ("M", "F", "O"):
        blank["PatientSex"] = ""
    known = having(header, **blank, **_charset(header))
    step = DSfloat(content.step_mm, auto_format=True)
    depth = {"SpacingBetweenSlices": step, "SliceThickness": header.get("SliceThickness") or step}
    return [
        having(
            known,
            **depth,
            Rows=rows,
            Columns=columns,
            ImagePositionPatient=[DSfloat(mm, auto_format=True) for mm in one.position],
            SOPClassUID=one.sop_class if one.frame is None else _MR,
            SOPInstanceUID=one.instance if one.frame is None else f"2.25.{index + 1}",
        )
        for index, one in enumerate(content.origin.slices)
    ]


def _charset(header: Any) -> dict[str, Any]:
    """The source's, in which patients are found by name; UTF-8 in place of what is none of DICOM's.

    The first of several may be left blank, which stands for ASCII.
    """
    import highdicom as hd

    value = header.get("SpecificCharacterSet")
    values = [value] if isinstance(value, str | None) else list(value)
    if not any(values):
        return {"SpecificCharacterSet": None} if "SpecificCharacterSet" in header else {}
    terms = [str(term or "ISO 2022 IR 6") for term in values]
    known = {term.value for term in hd.SpecificCharacterSetValues}
    usable = all(term in known and (len(terms) == 1 or term.startswith("ISO 2022")) for term in terms)
    return {"SpecificCharacterSet": (terms if len(terms) > 1 else terms[0]) if usable else "ISO_IR 192"}


def having(header: Any, **values: Any) -> Any:
    """A copy with other values, or without those that are None.

    Setting an attribute of a copy would change the element that both share.
    """
    from pydicom import Dataset
    from pydicom.datadict import dictionary_VR

    copy = Dataset()
    copy.update(header)
    for name, value in values.items():
        copy.pop(name, None)
        if value is not None:
            copy.add_new(name, dictionary_VR(name), value)
    return copy


def _packed(content: Content, kinds: Collection[Kind], picture: Picture | None) -> dict[Kind, bytes]:
    from uadtk.io.dicom_sc import capture
    from uadtk.io.dicom_seg import segmentation
    from uadtk.io.dicom_sr import report

    found: dict[Kind, bytes] = {}
    images = source_images(content)
    if content.segments and "seg" in kinds:
        found["seg"] = _bytes(segmentation(content, images))
    if "sr" in kinds:
        found["sr"] = _bytes(report(content, images[0]))
    if "sc" in kinds and picture is not None:
        found["sc"] = _bytes(capture(content, picture, images[0]))
    return found


def _bytes(dataset: Any) -> bytes:
    """Without the time of day."""
    del dataset.InstanceCreationDate, dataset.InstanceCreationTime
    for item in dataset.ContributingEquipmentSequence:
        item.pop("ContributionDateTime", None)
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _origin(scan: Scan) -> Origin:
    """Raises as ``refuse_unwritable``."""
    require_highdicom()
    origin: Origin | None = scan.origin
    if origin is None:
        raise DataError("is not DICOM, so no DICOM can be written for it", fix=f"Leave out {_OPTIONS}.")
    missing = [name for name in ("StudyInstanceUID", "SeriesInstanceUID") if not origin.header.get(name)]
    missing += [] if all(one.instance for one in origin.slices) else ["SOPInstanceUID"]
    missing += [] if all(one.sop_class for one in origin.slices) else ["SOPClassUID"]
    missing += ["FrameOfReferenceUID"] if "" in origin.spaces else []
    if missing:
        what = f"its DICOM headers have no {', no '.join(missing)}, to which a result could refer"
        raise DataError(what, fix=f"Export the original series, or leave out {_OPTIONS}.")
    if len(origin.spaces) > 1:
        what = f"its slices are in {len(origin.spaces)} frames of reference: no DICOM result can refer to all of them"
        raise DataError(what, fix=f"Export the original series, or leave out {_OPTIONS}.")
    return origin


def _segments(findings: tuple[Finding, ...]) -> tuple[Segment, ...]:
    whole = len(findings) if len(findings) <= MOST_SEGMENTS else MOST_SEGMENTS - 1
    segments = [Segment(f.label, f"Finding {f.label}", f.volume_ml, f.peak, f.lobe) for f in findings[:whole]]
    if rest := findings[whole:]:
        name = f"Findings {rest[0].label} to {rest[-1].label}"
        segments.append(Segment(MOST_SEGMENTS, name, sum(f.volume_ml for f in rest), max(f.peak for f in rest)))
    return tuple(segments)


def _step(scan: Scan) -> float:
    return scan.spacing_mm[2]


def _ascii(text: str) -> str:
    """In any character set that the patient's name may need."""
    return text.encode("ascii", "replace").decode()
