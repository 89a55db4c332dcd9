"""Names of BIDS files, and the files that apply to others by their names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uadtk.io.memo import read_json
from uadtk.io.names import IMAGE
from uadtk.io.read import located
from uadtk.io.table import read_sheet

# Entities of raw data: they distinguish images. All others describe derivatives of an image.
RAW = {
    *("sub", "ses", "sample", "task", "tracksys", "acq", "nuc", "voi", "ce", "trc", "stain", "rec", "dir", "run"),
    *("mod", "echo", "flip", "inv", "mt", "part", "proc", "hemi", "recording", "split", "chunk"),
}
_NUMBERS = frozenset(("run", "echo", "flip", "inv", "split", "chunk"))


@dataclass(frozen=True)
class Name:
    """A BIDS name: its entities in order, words without a value between them, and the suffix ('' if there is none)."""

    entities: dict[str, str]
    words: tuple[str, ...]
    suffix: str

    @classmethod
    def parse(cls, name: str) -> Name | None:
        """None if it is not one: no ``sub-``, an entity twice, or a value that is missing.

        >>> Name.parse("sub-01_acq-3d_run-2_FLAIR.nii.gz").entities
        {'sub': '01', 'acq': '3d', 'run': '2'}
        """
        stem = IMAGE.sub("", name) if IMAGE.search(name) else name.partition(".")[0]
        chunks = stem.split("_")
        suffix = "" if "-" in chunks[-1] else chunks.pop()
        entities: dict[str, str] = {}
        words = []
        for chunk in chunks:
            key, dash, value = chunk.partition("-")
            if not dash:
                words.append(chunk)
            elif not key or not value or key in entities:
                return None
            else:
                entities[key] = value
        return cls(entities, tuple(words), suffix) if next(iter(entities), "") == "sub" else None

    def raw(self) -> dict[str, str]:
        """The entities that distinguish images; run-1 equals run-01."""
        own = {key: value for key, value in self.entities.items() if key in RAW}
        return {k: v.lstrip("0") or "0" if k in _NUMBERS and v.isdecimal() else v for k, v in own.items()}

    def within(self, other: Name) -> bool:
        """All entities of raw data that it has, ``other`` has too, with the same values."""
        return self.raw().items() <= other.raw().items()


def is_contrast(word: str) -> bool:
    """The suffix of an image, also within other names, as in ``sub-01_T1w_label-lesion_roi``."""
    return word in ("FLAIR", "T1w", "T2w", "PDw", "T2starw", "PD", "T1", "T2", "dwi", "swi", "SWI", "bold", "epi")


def sidecar(path: Path, name: Name, root: Path) -> dict[str, Any]:
    """Metadata of a file: those of the folders above, overridden by those nearer to it."""
    found: dict[str, Any] = {}
    for one in _inherited(path, name, root, ".json"):
        found |= read_json(one)
    return found


def _inherited(path: Path, name: Name, root: Path, ending: str) -> list[Path]:
    """Files that apply to ``path`` by the inheritance principle, the most general first."""
    folders = [folder for folder in reversed(path.parents) if folder == root or root in folder.parents]
    found = []
    for folder in folders:
        here = []
        for one in folder.glob(f"*{name.suffix}{ending}"):
            stem = one.name.removesuffix(ending)
            own = _loose(stem)
            if own.suffix == name.suffix and own.entities.items() <= name.entities.items():
                here.append((len(own.entities), one.name, one))
        found += [one for _, _, one in sorted(here)]
    return found


def _loose(stem: str) -> Name:
    """A name that need not begin with a subject, as of files that apply to all."""
    chunks = stem.split("_")
    pairs = [chunk.partition("-") for chunk in chunks[:-1]]
    return Name({key: value for key, _, value in pairs}, (), chunks[-1])


def lesion_labels(path: Path, name: Name, root: Path) -> tuple[int, ...] | None:
    """The values of a label map that its table names as lesions; None without a table or such a name."""
    tables = _inherited(path, name, root, ".tsv")
    if not tables:
        return None
    with located(tables[-1]):
        sheet = read_sheet(tables[-1])
    columns = {column.lower(): place for place, column in enumerate(sheet.columns)}
    if "index" not in columns:
        return None
    labels = []
    for _, cells in sheet.lines:
        names = [cells.get(columns[one], "").strip() for one in ("name", "abbreviation") if one in columns]
        number = cells.get(columns["index"], "").strip()
        if re.fullmatch("[0-9]{1,9}", number) and ("L" in names or any("lesion" in one.lower() for one in names)):
            labels.append(int(number))
    return tuple(sorted(labels)) or None
