"""Files that uadtk wrote: they are never taken for scans, nor for masks that people drew."""

from __future__ import annotations

import re
from pathlib import Path

from uadtk.io.memo import generated_here, read_json

# As uadtk.io.results and uadtk.training.pseudo_labels name them.
_OUTPUT = re.compile(
    r"(.+?)(?:_space-MNI152NLin2009aSym)?"
    r"_(label-lesion_(mask|dseg)|desc-[^_]+_(mask|statmap|FLAIR)|(?<=MNI152NLin2009aSym_)FLAIR)\.nii(\.gz)?",
    re.IGNORECASE,
)
_ALWAYS = re.compile(r"_(desc-[^_]+_statmap|desc-[^_]*pseudohealthy_[^_]+)\.nii(\.gz)?$", re.IGNORECASE)
_DICOM = re.compile(r"(.+)_(seg|sr|sc)\.dcm")
# As uadtk.io.bids_out names them.
_EXPORTED = re.compile(
    r"_(label-(lesion|brain)_desc-[^_]+_mask|desc-[^_]+lesions_dseg|space-MNI152NLin2009aSym_(desc-[^_]+_)?[^_]+)"
    r"\.nii(\.gz)?$"
)


def is_own(path: Path) -> bool:
    """Its name is that of an output, and the record that is written with it is beside it."""
    if _ALWAYS.search(path.name):
        return True
    if _EXPORTED.search(path.name) and any(map(generated_here, path.absolute().parents[1:4])):
        return True
    match = _OUTPUT.fullmatch(path.name) or _DICOM.fullmatch(path.name)
    return bool(match) and any(_is_record(path.with_name(match[1] + end)) for end in _RECORDS)  # type: ignore[index]


def may_be_own(path: Path) -> bool:
    """Its name is that of an output, and it lies among ours, but without its record."""
    return bool(_OUTPUT.fullmatch(path.name)) and generated_here(path.parent)


_RECORDS = ("_provenance.json", "_labels.json")


def _is_record(path: Path) -> bool:
    record = read_json(path)
    versions = record.get("versions")
    return (isinstance(versions, dict) and "uadtk" in versions) or {"teacher", "trust", "point"} <= record.keys()
