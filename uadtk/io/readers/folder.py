"""Folders of images, and images that are named one by one: their subjects, and the masks that lie beside them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from uadtk.core.errors import DataError
from uadtk.io.masks import OWN_SPACES, Candidate, Notes, kind_of, with_masks
from uadtk.io.names import IMAGE, scan_name
from uadtk.io.own import is_own, may_be_own
from uadtk.io.rows import PATIENT, Row

_MASK = re.compile(
    r"(mask|masks|(^|[\W_])(d?seg|probseg|segmentation|roi|lesions?|labels?|statmap|gt|annotation))$", re.IGNORECASE
)
_CONTRAST = re.compile(r"[_.-](t2[_-]?)?flair$", re.IGNORECASE)
_DOCUMENTED = re.compile(r"(space-[a-z0-9]+_)?(desc-brain|label-lesion)_mask", re.IGNORECASE)


def images_in(folder: Path) -> list[Path]:
    """Images whose names do not say that they are masks, without our own outputs. Raises ``DataError`` for none."""
    images = [path for path in _listed(folder) if not _MASK.search(_stem(path)) and not is_own(path)]
    if not images:
        raise DataError("no NIfTI images in the folder", fix="Expected *.nii.gz, sub-* folders or a cohort table.")
    return images


def rows_of(images: Sequence[Path], folders: Sequence[Path] = ()) -> tuple[list[Row], list[str]]:
    """Rows and notes; subjects by name; where names repeat (a/flair.nii.gz, b/flair.nii.gz) by folder too.

    In ``folders``, which were named as a whole, masks without the name of an image belong to the only one.
    """
    bases = [scan_name(image) for image in images]
    often = Counter(bases)
    notes, beside, rows = Notes(), dict[Path, _Beside](), []
    for image, base in zip(images, bases, strict=True):
        bids = re.match(r"sub-[^_]+(?=_|$)", base)
        folder = image.absolute().parent.name
        subject = bids[0] if bids else f"{folder}_{base}" if often[base] > 1 else base
        if image.parent not in beside:
            beside[image.parent] = _Beside.of(image.parent, image.parent in folders)
        rows.append(beside[image.parent].complete(Row(subject, image), notes))
    return rows, list(notes.lines("masks"))


@dataclass
class _Beside:
    """What lies in a folder: for each image the masks named after it, and the masks named after none."""

    of_image: dict[Path, list[tuple[Path, str]]] = field(default_factory=dict)
    of_none: list[Path] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Path, whole: bool) -> _Beside:
        files = _listed(folder)
        images = [path for path in files if not _MASK.search(_stem(path)) and not is_own(path)]
        found = cls()
        for mask in files:
            if not _MASK.search(_stem(mask)) or is_own(mask):
                continue
            owners = _owners(mask, images)
            for image, rest in owners:
                found.of_image.setdefault(image, []).append((mask, rest))
            if not owners and whole and len(images) == 1:
                found.of_image.setdefault(images[0], []).append((mask, _stem(mask)))
            elif not owners and whole and kind_of(_stem(mask)) == "lesion":
                found.of_none.append(mask)
        return found

    def complete(self, row: Row, notes: Notes) -> Row:
        brain, lesion, doubtful = list[Candidate](), list[Candidate](), list[Path]()
        for mask, rest in self.of_image.get(row.image, ()):
            kind: str = kind_of(rest)
            space = re.search(r"space-([a-z0-9]+)", rest, re.IGNORECASE)
            own = space is None or space[1].lower() in OWN_SPACES
            rank = 2 if _DOCUMENTED.fullmatch(rest) else 0 if rest.lower().endswith("dseg") else 1
            if may_be_own(mask):
                kind = "unknown" if kind == "lesion" else "other"
            if kind == "unknown":
                doubtful.append(mask)
            elif kind != "other":
                (brain if kind == "brain" else lesion).append(Candidate(mask, own, rank))
        row = with_masks(row, brain, lesion, doubtful, notes)
        if self.of_none and row.lesion_mask is None:
            for mask in self.of_none:
                notes.add("a lesion mask whose name is that of no image here is not taken", mask)
            row = Row(**{**vars(row), "group": row.group or PATIENT})
        return row


def _listed(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if IMAGE.search(p.name) and not p.name.startswith(".") and not p.is_dir())


def _stem(path: Path) -> str:
    return IMAGE.sub("", path.name)


def _owners(mask: Path, images: Sequence[Path]) -> list[tuple[Path, str]]:
    """The images with the longest name that the mask's begins with, and the rest of the mask's name.

    ``P1_lesion`` belongs to ``P1_flair`` too: there the contrast is not part of the name.
    """
    stem, found = _stem(mask), list[tuple[int, Path, str]]()
    for image in images:
        keys = {_stem(image), scan_name(image), _CONTRAST.sub("", _stem(image))}
        fitting = [key for key in keys if key and re.match(rf"{re.escape(key)}[_.\-]", stem)]
        if fitting:
            key = max(fitting, key=len)
            found.append((len(key), image, stem[len(key) + 1 :]))
    longest = max((length for length, _, _ in found), default=0)
    return [(image, rest) for length, image, rest in found if length == longest]
