"""Rows and cohorts: which scans, of whom, with which masks, for which use."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path

from uadtk.core.errors import DataError, UsageError, did_you_mean
from uadtk.io.parts import image_sha256, parts_of, read_by

HEALTHY = "healthy"
PATIENT = "patient"
"""Group of a scan whose lesions are marked somewhere, but not on its grid: it is not healthy, and not labelled."""

# Common spellings, without spaces and punctuation. Any other group is one of patients.
_HEALTHY = {
    *("healthy", "healthycontrol", "healthycontrols", "healthysubject", "healthysubjects", "healthyvolunteer"),
    *("healthyvolunteers", "healthyparticipant", "control", "controls", "controlgroup", "ctrl", "ctl", "con"),
    *("hc", "hcs", "hv", "normal", "normals", "normalcontrol", "normalcontrols", "nc", "cn", "cognitivelynormal"),
}
_KEPT = (HEALTHY, "control", "controls")  # stored as written, so that digests of such tables stay valid
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "validate", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True)
class Row:
    """One scan. Its files need not exist until they are used: one that is missing fails one row.

    ``lesion_free_slices`` are indices along z of the stored image; None: unknown. ``ignore_mask``: voxels of a labelled
    scan whose label is unreliable. ``label_source``: what made the lesion mask; None: human annotators.
    ``prior_mask``: suspected lesions of an unlabelled scan, such as the mask of another model.
    ``lesion_labels``: the values of ``lesion_mask`` that are lesion; None: it holds one value besides 0. All masks are
    on the scan's own grid.
    """

    subject: str
    image: Path
    brain_mask: Path | None = None
    lesion_mask: Path | None = None
    group: str | None = None
    site: str | None = None
    split: str | None = None
    collection: str | None = None
    lesion_free_slices: tuple[int, ...] | None = None
    ignore_mask: Path | None = None
    prior_mask: Path | None = None
    label_source: str | None = None
    lesion_labels: tuple[int, ...] | None = None

    @property
    def presumed_healthy(self) -> bool:
        """No lesion mask, and no group that says otherwise."""
        return self.lesion_mask is None and (self.group is None or group_of(self.group) in _KEPT)


NAME_MASKS = "Name lesion masks in the column lesion_mask; an empty mask says that there is no lesion."
COLUMNS = tuple(one.name for one in fields(Row))
FILES = ("image", "brain_mask", "lesion_mask")
LATER_FILES = ("ignore_mask", "prior_mask")  # in a digest only where there is one, so that older digests stay valid


def group_of(text: str) -> str:
    """``healthy`` for its common spellings (HC, Control, normal); any other group is unchanged."""
    return HEALTHY if text not in _KEPT and re.sub(r"[\W_]+", "", text).casefold() in _HEALTHY else text


def split_of(text: str) -> str:
    """``train``, ``validation`` or ``test`` for common spellings; any other split is unchanged."""
    return _SPLITS.get(text.casefold(), text)


_CANONICAL = {"group": group_of, "split": split_of}


@dataclass(frozen=True)
class Cohort:
    """Rows in the order of their source, and where they came from.

    ``notes``: lines for the user about files that were found and are not used.

    Raises
    ------
    DataError
        No rows, or a subject or a file in two splits: test data must be unseen in training.
    """

    rows: tuple[Row, ...]
    source: str
    notes: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if not self.rows:
            raise DataError("no scans in it", self.source, "Name an image, a folder, or a table with a line per scan.")
        if len({row.split for row in self.rows if row.split}) < 2:
            return
        splits: dict[Hashable, str] = {}
        for row in (row for row in self.rows if row.split):
            whose = row.subject.removeprefix("sub-")
            for key, what in ((whose, f"subject '{row.subject}'"), (same_file(row.image), f"image {row.image}")):
                if key is not None and splits.setdefault(key, str(row.split)) != row.split:
                    raise DataError(
                        f"{what} is in two splits, '{splits[key]}' and '{row.split}'",
                        self.source,
                        "Split by subject: give all scans of a subject the same split.",
                    )

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def split(self, name: str) -> Cohort:
        """The rows of one split. Raises ``DataError`` if there are none."""
        known = {row.split for row in self.rows if row.split}
        name = name if name in known else split_of(name)
        if name not in known:
            fix = did_you_mean(name, known) if known else "Add a column 'split' to the cohort table."
            raise DataError(f"no scans in split '{name}'", self.source, fix)
        return self.where(split=name)

    def parts(self) -> Iterator[Cohort]:
        """All rows, then those of each split."""
        yield self
        yield from (self.split(name) for name in sorted({row.split for row in self.rows if row.split}))

    def where(self, **columns: str) -> Cohort:
        """The rows with these values, such as ``where(collection="lgg", group="glioma")``.

        Raises
        ------
        UsageError
            There is no such column.
        DataError
            No row has these values.
        """
        for name in columns:
            if name not in COLUMNS:
                raise UsageError(f"no column '{name}' in a cohort", fix=did_you_mean(name, COLUMNS))
        meant = {name: {value, _CANONICAL.get(name, str)(value)} for name, value in columns.items()}
        rows = tuple(r for r in self.rows if all(getattr(r, name) in values for name, values in meant.items()))
        if not rows:
            wanted = ", ".join(f"{name} '{value}'" for name, value in columns.items())
            raise DataError(f"no scans with {wanted}", self.source, "Check the cohort table.")
        return Cohort(rows, self.source)

    def digest(self) -> str:
        """SHA-256 over subjects, splits, lesion-free slices, label sources, and the names and sizes of the files.

        Sizes stand for contents, so that a cohort of many gigabytes costs nothing: packed images of equal size that
        differ are rare. Neither the order of the rows nor the folder they lie in matters.
        """
        return _sha256_of_lines(sorted("\t".join(_facts(row)) for row in self.rows))


def same_file(path: Path) -> Hashable:
    """Equal for two paths that lead to one file: links of both kinds, dead ones too, and the halves of a pair.

    None if there is nothing: that row fails when it is used.
    """
    path = path.with_name(re.sub(r"\.img(?=(\.gz)?$)", ".hdr", path.name)) if path.name else path
    try:
        found = path.stat()
    except OSError:
        return os.path.realpath(path) if os.path.islink(path) else None
    return found.st_dev, found.st_ino


def _facts(row: Row) -> Iterator[str]:
    yield from (row.subject, row.split or "", " ".join(map(str, row.lesion_free_slices or ())))
    yield from (_file(getattr(row, name)) for name in FILES)
    yield from (f"{name} {_file(getattr(row, name))}" for name in LATER_FILES if getattr(row, name))
    if row.label_source:
        yield f"labels of {row.label_source}"
    if row.lesion_labels:
        yield f"lesion labels {row.lesion_labels}"


def _file(path: Path | None) -> str:
    if not path or not os.path.exists(path):  # False for a name that no file can have, too
        return f"{path.name} missing" if path else ""
    try:
        parts = parts_of(path)
    except DataError:  # fails its own row, when it is used
        parts = [path]
    return f"{path.name} {sum(file.stat().st_size for file in parts)}"


def content_digest(cohort: Cohort) -> str:
    """SHA-256 over subjects, groups, splits, lesion-free slices and the contents of the files, in the rows' order.

    The order decides which patients the bootstrap draws. Files are read once per process.
    """
    return _sha256_of_lines(["\t".join(_content_facts(row)) for row in cohort])


def _content_facts(row: Row) -> Iterator[str]:
    yield from (row.subject, row.group or "", row.split or "", repr(row.lesion_free_slices))
    for path in (row.image, row.brain_mask, row.lesion_mask):
        yield _content(path) if path else ""
    if row.lesion_labels:
        yield repr(row.lesion_labels)
    if readers := read_by((row.image, row.brain_mask, row.lesion_mask)):
        yield repr(readers)


def _content(path: Path) -> str:
    """Digest of a file's content. A file that is missing fails its own row, when it is used."""
    try:
        stats = [file.stat() for file in parts_of(path)]
        # A change of the inode cannot be set back, as that of the content can.
        return _sha256(path, sum(s.st_size for s in stats), max(max(s.st_mtime_ns, s.st_ctime_ns) for s in stats))
    except (OSError, ValueError, DataError):  # missing, not allowed, a pipe, or an empty folder
        return "unreadable"


@cache
def _sha256(path: Path, _size: int, _changed: int) -> str:
    return image_sha256(path)


def _sha256_of_lines(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode(errors="surrogatepass")).hexdigest()
