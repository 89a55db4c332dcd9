"""Series of a study: which of them can be a scan, which is the FLAIR, and the facts in its tags."""

from __future__ import annotations

import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from uadtk.core.errors import DataError
from uadtk.io.readers.dicom_files import Header
from uadtk.io.readers.dicom_frames import text_of

_MR = {
    "1.2.840.10008.5.1.4.1.1.4": "MR image",
    "1.2.840.10008.5.1.4.1.1.4.1": "enhanced MR image",
    "1.2.840.10008.5.1.4.1.1.4.4": "legacy converted enhanced MR image",
}
_FLAIR = re.compile(r"flair|dark[ -]*fl|fluid[ -]*att|spc[ -]*ir", re.IGNORECASE)
_OTHER = re.compile(
    r"t1[ -]*(w[ -]*)?flair|flair[ -]*t1|\bstir\b|\bdir\b|mprage|\bdwi\b|\badc\b|\btrace|\bswi\b|\bgre\b|t2[ -]?star|"
    r"mip\b|subtract|locali[sz]er|scout|survey|pilot|calibration|\basset\b|angio|\btof\b|\bmra\b|perfusion|\basl\b|"
    r"fmri|\bbold\b|\bepi\b|\bdti\b|spectro",
    re.IGNORECASE,
)
_DERIVED = {
    "MPR",
    "PROJECTION IMAGE",
    "MIP",
    "MIN IP",
    "SUBTRACTION",
    "SUB",
    "ADC",
    "REFORMATTED",
    "AVERAGE",
    "COMP_AD",
}
# T2-weighted FLAIR nulls fluid at 1.5 to 7 T; T1-FLAIR, MPRAGE and STIR invert earlier or read out at short echoes.
_TI_MS, _TE_MS = (1400.0, 3500.0), 60.0

FACTS = (
    "Modality StudyDate Manufacturer ManufacturerModelName MagneticFieldStrength BodyPartExamined StudyDescription "
    "SeriesDescription ProtocolName SequenceName PulseSequenceName ScanningSequence SequenceVariant ImageType "
    "MRAcquisitionType EchoTime RepetitionTime InversionTime SliceThickness SpacingBetweenSlices ContrastBolusAgent "
    "SeriesNumber SOPClassUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID"
)
_NESTED = {  # where enhanced files keep what classic ones have at the top
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "RepetitionTime": ("MRTimingAndRelatedParametersSequence", "RepetitionTime"),
    "InversionTime": ("MRModifierSequence", "InversionTimes"),
    "SliceThickness": ("PixelMeasuresSequence", "SliceThickness"),
    "SpacingBetweenSlices": ("PixelMeasuresSequence", "SpacingBetweenSlices"),
}


@dataclass(frozen=True)
class Series:
    """Files of one SeriesInstanceUID."""

    headers: tuple[Header, ...]

    def get(self, keyword: str) -> str:
        """Of the first file, as text; empty if it is missing."""
        return self.headers[0].get(keyword) or text_of(_nested(self.headers[0].tags, *_NESTED.get(keyword, ("", ""))))

    @property
    def images(self) -> int:
        return sum(int(header.get("NumberOfFrames") or 1) for header in self.headers)

    @property
    def label(self) -> str:
        """``5 't2_flair_tra' (24 images)``."""
        name = self.get("SeriesDescription") or self.get("ProtocolName") or self.get("SequenceName")
        name = " ".join("".join(c if c.isprintable() else " " for c in name).split())[:60]
        kind = not self.problem().endswith("not an MR image") and f"{self.images} image{'s' * (self.images != 1)}"
        return f"{self.get('SeriesNumber') or 'without number'} '{name}' ({kind or self.get('Modality') or 'no image'})"

    def problem(self) -> str:
        """Why this cannot be a scan; empty if it may be one."""
        sop, modality = self.get("SOPClassUID"), self.get("Modality")
        kinds = text_of(self.headers[0].tags.get("ImageType")).upper().split("\\")
        if sop not in _MR and (sop or modality != "MR"):  # de-identified files may lack their class
            return f"a {_sop_name(sop) or modality or 'DICOM object'}, not an MR image"
        if modality not in ("MR", ""):
            return f"of modality {modality}, not MR"
        if "MOSAIC" in kinds:
            return "a mosaic: all slices of a volume as tiles of one picture (functional or diffusion EPI)"
        if "LOCALIZER" in kinds:
            return "a localizer"
        return ""

    def flair(self) -> bool | None:
        """Whether it is a T2-weighted FLAIR by its name and timing; None if the tags do not tell."""
        names = [self.get(k) for k in ("SeriesDescription", "ProtocolName", "SequenceName", "PulseSequenceName")]
        words = " ".join(names).replace("_", " ")
        kinds = set(text_of(self.headers[0].tags.get("ImageType")).upper().split("\\"))
        ti, te = _ms(self.get("InversionTime")), _ms(self.get("EchoTime"))
        if _OTHER.search(words) or kinds & _DERIVED:
            return False
        if (ti and not _TI_MS[0] <= ti <= _TI_MS[1]) or (te and te < _TE_MS):
            return False
        if _FLAIR.search(words) or (ti and te):
            return True
        return None if not words.strip() or (not te and not ti) else False


def series_of(headers: Iterable[Header]) -> list[Series]:
    """Files by SeriesInstanceUID, in the order of series numbers."""
    groups: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        groups[header.series].append(header)
    return sorted(
        (Series(tuple(group)) for group in groups.values()), key=lambda s: (_ms(s.get("SeriesNumber")), s.label)
    )


def choose(series: Sequence[Series]) -> tuple[Series, list[str]]:
    """The only series, else the only FLAIR, and a note on those left.

    Raises
    ------
    DataError
        None is an MR image, none of several is a FLAIR, or several are: all are listed.
    """
    if len(series) == 1:
        if problem := series[0].problem():
            raise DataError(f"is {problem}", fix="Name the folder of the FLAIR series.")
        return series[0], []
    usable = [s for s in series if not s.problem()]
    found = usable if len(usable) == 1 else [s for s in usable if s.flair()]
    if len(found) != 1:
        if not usable:
            what = f"none of {len(series)} series can be a scan: {_listed(series, problems=True)}"
        elif found:
            what = f"{len(found)} series may be the FLAIR: {_listed(found)}"
        else:
            what = f"none of {len(series)} series is a FLAIR by its tags: {_listed(series)}"
        raise DataError(what, fix="Name a folder with the wanted series alone, or one of its files.")
    rest = [s for s in series if s is not found[0]]
    why = "" if found[0].flair() else ", the only one that may be a scan; its tags do not say FLAIR"
    return found[0], [f"took series {found[0].label}{why}; left {_listed(rest)}"]


def facts_of(data: Any) -> dict[str, Any]:
    """The tags that describe the acquisition; no names or addresses of people, and no date but that of the study."""
    facts = {}
    for name in FACTS.split():
        with suppress(Exception):  # a value that pydicom cannot decode is no fact
            value = data.get(name)
            if value in (None, "") and name in _NESTED:
                value = _nested(data, *_NESTED[name])
            if value not in (None, ""):
                facts[name] = _plain(value)
    return facts


def subject_of(header: Header) -> str:
    """A subject by the patient's number; a short digest of it where that is missing or is the patient's name."""
    number, name = header.get("PatientID"), header.get("PatientName")
    words = [word.casefold() for word in re.findall(r"[^\W\d_]{3,}", name)]
    if number and (re.search(r"\d", name) or not any(w in number.casefold() and "anon" not in w for w in words)):
        return number  # a name with digits is a code already
    unique = number or header.get("StudyInstanceUID")
    return f"patient-{hashlib.sha256(unique.encode()).hexdigest()[:8]}"


def _listed(series: Sequence[Series], problems: bool = False) -> str:
    shown = [f"{s.label}{f': {s.problem()}' if problems else ''}" for s in series[:12]]
    return ", ".join(shown) + (f" and {len(series) - 12} more" if len(series) > 12 else "")


def _sop_name(uid: str) -> str:
    from pydicom.uid import UID

    name = UID(uid).name if uid else ""
    return "" if name == uid else name.removesuffix(" Storage")


def _ms(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _nested(data: Any, group: str, keyword: str) -> Any:
    for holders in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for holder in (data.get(holders) or [])[:1]:
            items = holder.get(group)
            if items and keyword in items[0]:
                return items[0].get(keyword)
    return None


def _plain(value: Any) -> Any:
    """As a value that JSON can hold."""
    if isinstance(value, (int, float)) and math.isfinite(value):
        return int(value) if isinstance(value, int) else float(value)
    if isinstance(value, str | bytes | float):
        return str(value)
    values = [_plain(v) for v in value]
    return values[0] if len(values) == 1 else values
