"""Which mask belongs to an image, among those found beside it or in derivatives.

A mask that exists is never treated as absent. One that cannot be used stays the mask of its row, which then fails when
it is read: a patient whose lesion mask is a dead link is not healthy. A mask for another space or another image is not
used, and a note reports that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from uadtk.core.errors import DataError
from uadtk.core.volume import Volume
from uadtk.io.nifti import read_grid
from uadtk.io.rows import PATIENT, Row

Kind = Literal["brain", "lesion"]
OWN_SPACES = ("orig", "native", "flair")  # values of ``space-`` for a mask in the space of its FLAIR

# Words for what may be a lesion, in names of masks.
_SUSPECT = re.compile(
    "wmh|tumou?r|glioma|stroke|infarct|o?edema|hyperintens|patholog|abnormal|fcd|gtv|ha?emorrh|plaque|anomal"
)


def kind_of(name: str) -> Literal["brain", "lesion", "unknown", "other"]:
    """What a mask shows, by the part of its name after that of its image; ``unknown`` may be lesions.

    >>> [kind_of(name) for name in ("desc-brain_mask", "lesion", "label-L_roi", "seg", "wmh_mask", "label-GM_mask")]
    ['brain', 'lesion', 'lesion', 'unknown', 'unknown', 'other']
    """
    parts = [part for part in re.split(r"[\W_]+", name.lower()) if part]
    joined = "".join(parts)
    lesion = "lesion" in joined or re.search(r"(^|_)label-L(_|$)", name)
    if "prob" in joined or "statmap" in joined:
        return "unknown" if lesion else "other"
    if lesion:
        return "lesion"
    if "brain" in joined:
        return "brain" if "mask" in joined else "other"
    return "unknown" if _SUSPECT.search(joined) or (len(parts) == 1 and joined != "dseg") else "other"


@dataclass(frozen=True)
class Candidate:
    """A mask that may belong to an image. ``own``: it is in the image's own space. The highest rank is used."""

    path: Path
    own: bool = True
    rank: int = 0


@dataclass
class Notes:
    """Files that were found and are not used, by reason."""

    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, item: object) -> None:
        items = self.found.setdefault(reason, [])
        if str(item) not in items:
            items.append(str(item))

    def lines(self, where: Path | str) -> Iterator[str]:
        for reason, items in self.found.items():
            number = f" (and {len(items) - 1} more)" if len(items) > 1 else ""
            yield f"{where}: {reason}: {items[0]}{number}"


def with_masks(
    row: Row, brain: Sequence[Candidate], lesion: Sequence[Candidate], doubtful: Sequence[Path], notes: Notes
) -> Row:
    """The row with its masks.

    With a lesion mask for another space or image, or a mask of unknown content (``doubtful``), the row becomes that of
    a patient without labels, unless its group is known.

    Raises
    ------
    DataError
        Two masks of the same rank for one image.
    """
    brain_mask, lesion_mask = choose(row.image, brain), choose(row.image, lesion)
    for kind, mask, candidates in (("brain", brain_mask, brain), ("lesion", lesion_mask, lesion)):
        if mask is None:
            for one in candidates:
                notes.add(f"a {kind} mask of another space or image is not taken", one.path)
    if lesion_mask is None:
        for path in doubtful:
            notes.add("may be a lesion mask and is not taken; name it ..._label-lesion_mask, or use a table", path)
    marked = lesion_mask is None and (lesion or doubtful)
    group = row.group or (PATIENT if marked else None)
    return Row(**{**vars(row), "brain_mask": brain_mask, "lesion_mask": lesion_mask, "group": group})


def choose(image: Path, candidates: Sequence[Candidate]) -> Path | None:
    """The mask of an image: on its grid; else one that is meant for it, which will fail when it is read."""
    try:
        grid = read_grid(image)
    except (DataError, OSError):  # the row fails when it is used
        return None
    fit = {one: _fits(one.path, grid) for one in candidates}
    good = [one for one in candidates if fit[one]]
    unknown = [one for one in candidates if one.own and fit[one] is None]
    wrong = [one for one in candidates if one.own and fit[one] is False]
    left = [*good, *unknown] if good else [*unknown, *wrong]
    left = [one for one in left if one.rank == max(other.rank for other in left)]
    if len(left) > 1:
        fix = "Name the right one in a cohort table."
        raise DataError(f"two masks for this image, {left[0].path} and {left[1].path}", str(image), fix)
    return left[0].path if left else None


def _fits(mask: Path, grid: Volume | None) -> bool | None:
    """None if that cannot be known: the mask or the image is not there, or of a format whose grid is not read here."""
    found = grid_of(mask)
    return None if grid is None or found is None else grid.same_grid(found)


def grid_of(path: Path) -> Volume | None:
    try:
        return read_grid(path)
    except (DataError, OSError):
        return None
