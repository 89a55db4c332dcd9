"""Cohorts: scans with their subjects, masks and splits, from a table, a folder, a BIDS tree or file names."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

from uadtk.core.errors import DataError, UsageError, did_you_mean
from uadtk.core.run import Run
from uadtk.core.volume import Mask, Scan
from uadtk.io.memo import files_of, sha256_of
from uadtk.io.nifti import read_grid
from uadtk.io.read import located, read_mask, read_scan
from uadtk.io.readers import IMAGE
from uadtk.io.readers.dicom import studies_in

PathLike = str | os.PathLike[str]

_BIDS = re.compile(r"(sub-[^_]+(?:_[a-z]+-[^_]+)*)_[A-Za-z0-9]+")
_NO_IMAGE = re.compile(r"(mask|_dseg|_probseg)$", re.IGNORECASE)


@dataclass(frozen=True)
class Row:
    """One scan. Its files need not exist until they are used: a missing file fails one row only.

    ``lesion_free_slices``: indices along z of the stored image, None if unknown. ``ignore_mask``: voxels of a labelled
    scan with unknown label. ``label_source``: what labelled the scan, None for human annotators. ``prior_mask``:
    suspected lesions in an unlabelled scan (by ``uadtk segment`` with any model). All masks are on the scan's own grid.
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


NAME_MASKS = "Name lesion masks in the column lesion_mask; an empty mask says that there is no lesion."
COLUMNS = tuple(field.name for field in fields(Row))
_FILES = ("image", "brain_mask", "lesion_mask")
_LATER_FILES = ("ignore_mask", "prior_mask")  # in a digest only if present, so that older digests remain valid


@dataclass(frozen=True)
class Cohort:
    """Rows in the order of their source, and the source's name.

    Raises
    ------
    DataError
        No rows, or a subject in two splits: test subjects must not be used in training.
    """

    rows: tuple[Row, ...]
    source: str

    def __post_init__(self) -> None:
        if not self.rows:
            raise DataError("no scans in it", self.source, "Name an image, a folder, or a table with a line per scan.")
        splits: dict[str, str] = {}
        for row in self.rows:
            if row.split and splits.setdefault(row.subject, row.split) != row.split:
                raise DataError(
                    f"subject '{row.subject}' is in two splits, '{splits[row.subject]}' and '{row.split}'",
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
        rows = tuple(r for r in self.rows if all(getattr(r, name) == value for name, value in columns.items()))
        if not rows:
            wanted = ", ".join(f"{name} '{value}'" for name, value in columns.items())
            raise DataError(f"no scans with {wanted}", self.source, "Check the cohort table.")
        return Cohort(rows, self.source)

    def digest(self) -> str:
        """SHA-256 over subjects, splits, lesion-free slices, label sources, and the names and sizes of the files.

        Sizes stand for contents, so that even cohorts of many gigabytes take no time: compressed images of equal size
        rarely differ. Independent of the order of the rows and of their folder.
        """
        lines = sorted("\t".join(_facts(row)) for row in self.rows)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_cohort(source: PathLike | Sequence[PathLike]) -> Cohort:
    """A cohort from one source or several.

    * a table (.tsv, .csv): columns ``subject`` and ``image``, and any others of ``Row``; paths are relative to the
      table; empty or ``n/a`` is None; unknown columns are ignored;
    * a BIDS tree: ``sub-*/[ses-*/]anat/*_FLAIR.nii[.gz]``;
    * a folder of images, except those named as masks;
    * DICOM: a folder without other images, a zip, or a file of a series; each study is one scan;
    * an image.

    Beside images that no table lists, and in the BIDS tree's ``derivatives`` (except ``derivatives/uadtk*``, which hold
    our own results), masks called ``..._desc-brain_mask.nii[.gz]`` and ``..._label-lesion_mask.nii[.gz]`` are taken if
    they are on the image's grid.

    Raises
    ------
    DataError
        No source, an invalid table, two masks for one image, a subject in two splits, or no image that exists.
    """
    sources = [Path(source)] if isinstance(source, str | os.PathLike) else [Path(s) for s in source]
    rows: list[Row] = []
    loose: list[Path] = []
    seen: set[str] = set()
    for path in sources:
        with located(path):
            if path.suffix.lower() in (".tsv", ".csv"):
                rows += _table(path)
            elif (scans := _dicom(path, seen)) is not None:
                rows += scans
            elif not path.is_dir():
                loose.append(path)
            elif any(path.glob("sub-*/")):
                rows += _bids(path)
            else:
                loose += _folder(path)
    rows += _loose(loose)
    shown = str(sources[0]) if len(sources) == 1 else f"{len(sources)} sources"
    if rows and not any(row.image.exists() for row in rows):
        what = "no such file" if len(rows) == 1 else f"none of the {len(rows)} images exists, such as {rows[0].image}"
        raise DataError(what, shown, "Check the paths; those in a table are relative to the table's folder.")
    return Cohort(tuple(rows), shown)


def read_row(row: Row, run: Run) -> tuple[Scan, Mask | None]:
    """The scan of a row, and its brain mask if the row has one; what a reader found odd is reported by ``run.say``.

    Raises as ``read_scan`` and ``read_mask``.
    """
    scan = read_scan(row.image, run.trust)
    for note in scan.notes:
        run.say(f"{row.subject}: {note}")
    return scan, read_mask(row.brain_mask, like=scan) if row.brain_mask else None


def output_name(item: Row | PathLike) -> str:
    """The base name of a scan's outputs, made of letters, digits, ``.``, ``_``, ``+``, ``-``.

    >>> output_name("raw/sub-01_ses-1_FLAIR.nii.gz"), output_name("scan.nii.gz")
    ('sub-01_ses-1', 'scan')
    >>> output_name(Row("P 7", Path("ses-2/flair.nii.gz")))
    'P-7_ses-2'
    """
    if not isinstance(item, Row):
        return _clean(_base(Path(item)))
    base = _base(item.image)
    if base.startswith("sub-") and f"{base}_".startswith(f"{item.subject}_"):
        return _clean(base)
    session = re.search(r"(?:^|[/_])(ses-[A-Za-z0-9]+)[/_]", item.image.as_posix())
    return _clean(f"{item.subject}_{session[1]}" if session else item.subject)


def output_names(rows: Iterable[Row]) -> tuple[str, ...]:
    """``output_name`` of every row; repeated names, ignoring case, get a number: ``P1``, ``P1_2``."""
    taken: set[str] = set()
    names = []
    for row in rows:
        base = name = output_name(row)
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name.casefold())
        names.append(name)
    return tuple(names)


def _table(path: Path) -> list[Row]:
    rows = []
    try:
        text = path.read_text(encoding="utf-8-sig")
        delimiter = max("\t,;", key=text.partition("\n")[0].count)
        lines = csv.reader(text.splitlines(), delimiter=delimiter, strict=True)
        columns = [name.strip() for name in next(lines, [])]
        _check_columns(columns)
        for cells in lines:
            if any(cells):
                rows.append(_row(path.parent, columns, cells, f"{path}, line {lines.line_num}"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"is no table of text ({error})", fix="Save it as UTF-8 with tabs or commas.") from error
    return rows


def _check_columns(columns: list[str]) -> None:
    for name in ("subject", "image"):
        if name not in columns:
            raise DataError(f"the table has no column '{name}'", fix=did_you_mean(name, columns))
    twice = [name for name, n in Counter(columns).items() if name in COLUMNS and n > 1]
    if twice:
        raise DataError(f"the table has two columns '{twice[0]}'", fix="Remove one.")


def _row(folder: Path, columns: list[str], cells: list[str], where: str) -> Row:
    if len(cells) > len(columns):
        raise DataError(f"{len(cells)} cells under {len(columns)} columns", where, "Repair the line.")
    values = {name: cell.strip() for name, cell in zip(columns, cells, strict=False) if cell.strip() not in ("", "n/a")}
    for name in ("subject", "image"):
        if name not in values:
            raise DataError(f"no {name}", where, "Fill in the cell or remove the line.")
    slices = values.get("lesion_free_slices", "").removeprefix("all")  # every slice: the same as no list
    if not re.fullmatch(r"[0-9\s,]*", slices):
        raise DataError(f"lesion_free_slices is '{slices}'", where, "Write slice numbers: 12 13 14.")
    names = {name: values[name].replace("\\", "/") for name in (*_FILES, *_LATER_FILES) if name in values}
    files = {name: folder / path for name, path in names.items()}  # a table from Windows has backslashes
    words = {n: values[n] for n in ("group", "site", "split", "collection", "label_source") if n in values}
    numbers = tuple(sorted({int(number) for number in re.findall(r"[0-9]+", slices)}))
    return Row(values["subject"], **files, **words, lesion_free_slices=numbers or None)  # type: ignore[arg-type]


def _bids(root: Path) -> list[Row]:
    images = [p for pattern in ("sub-*/anat/*", "sub-*/ses-*/anat/*") for p in root.glob(pattern)]
    images = sorted(p for p in images if re.search(r"_FLAIR\.nii(\.gz)?$", p.name))
    if not images:
        raise DataError("no FLAIR images in the BIDS tree", fix="Expected sub-*/[ses-*/]anat/*_FLAIR.nii.gz.")
    derived = [p for p in sorted(root.glob("derivatives/*/")) if not p.name.startswith("uadtk")]
    return [
        _found(image, image.relative_to(root).parts[0], [p / image.parent.relative_to(root) for p in derived])
        for image in images
    ]


def _dicom(path: Path, seen: set[str]) -> list[Row] | None:
    """A row per study of a zip, a folder that holds no other images, or a file; None if there is no DICOM.

    A file of a volume that was ``seen`` gives no row: all files of a series may be named, and are one scan.
    """
    if not path.exists() or (path.is_dir() and any(IMAGE.search(p.name) for p in path.rglob("*"))):
        return None
    studies = studies_in(path)
    fresh = [study for study in studies if study.volume not in seen]
    seen.update(study.volume for study in fresh if study.volume)
    return [_found(study.path, study.subject, []) for study in fresh] if studies else None


def _folder(folder: Path) -> list[Path]:
    images = sorted(p for p in folder.iterdir() if IMAGE.search(p.name) and not p.name.startswith("."))
    images = [p for p in images if not _NO_IMAGE.search(IMAGE.sub("", p.name))]
    if not images:
        raise DataError(
            "no NIfTI images in the folder, nor DICOM", fix="Expected *.nii.gz, sub-* folders or a cohort table."
        )
    return images


def _loose(images: list[Path]) -> list[Row]:
    """Images without a table: subjects by file name, and also by folder if names repeat (a/flair.nii.gz, b/...)."""
    bases = [_base(image) for image in images]
    often = Counter(bases)
    rows = []
    for image, base in zip(images, bases, strict=True):
        bids = re.match(r"sub-[^_]+(?=_|$)", base)
        folder = image.absolute().parent.name
        rows.append(_found(image, bids[0] if bids else f"{folder}_{base}" if often[base] > 1 else base, []))
    return rows


def _found(image: Path, subject: str, derived: list[Path]) -> Row:
    """A row with the masks found beside the image or in one of the derived folders."""
    brain, lesion = (_mask(image, [image.parent, *derived], end) for end in ("desc-brain_mask", "label-lesion_mask"))
    return Row(subject, image, brain, lesion)


def _mask(image: Path, folders: list[Path], ending: str) -> Path | None:
    name = re.compile(rf"{re.escape(_base(image))}(_space-[A-Za-z0-9]+)?_{ending}\.nii(\.gz)?")
    masks = [p for folder in folders if folder.is_dir() for p in sorted(folder.iterdir()) if name.fullmatch(p.name)]
    masks = [mask for mask in masks if _same_grid(mask, image)]
    if len(masks) > 1:
        fix = "Name the right one in a cohort table."
        raise DataError(f"two masks for this image, {masks[0]} and {masks[1]}", str(image), fix)
    return masks[0] if masks else None


def _same_grid(mask: Path, image: Path) -> bool:
    """Also False if either cannot be read; that is reported when the file is used."""
    try:
        grids = read_grid(mask), read_grid(image)
    except (DataError, OSError):
        return False
    return grids[0] is not None and grids[1] is not None and grids[0].same_grid(grids[1])


def _base(path: Path) -> str:
    """The file name without extensions, and without the suffix of a BIDS name."""
    name = IMAGE.sub("", path.name)
    if name == path.name:
        name = Path(name.removesuffix(".gz")).stem
    bids = _BIDS.fullmatch(name)
    return bids[1] if bids else name


def _clean(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", name).lstrip(".-") or "scan"


def _facts(row: Row) -> Iterator[str]:
    yield from (row.subject, row.split or "", " ".join(map(str, row.lesion_free_slices or ())))
    yield from (_file(getattr(row, name)) for name in _FILES)
    yield from (f"{name} {_file(getattr(row, name))}" for name in _LATER_FILES if getattr(row, name))
    if row.label_source:
        yield f"labels of {row.label_source}"


def _file(path: Path | None) -> str:
    if not path or not path.exists():
        return f"{path.name} missing" if path else ""
    return f"{path.name} {sum(file.stat().st_size for file in files_of(path))}"


def content_digest(cohort: Cohort) -> str:
    """SHA-256 over subjects, groups, splits, lesion-free slices and the contents of the files, in the rows' order.

    The order decides which patients the bootstrap draws. Files are read once per process.
    """
    return hashlib.sha256("\n".join("\t".join(_content_facts(row)) for row in cohort).encode()).hexdigest()


def _content_facts(row: Row) -> Iterator[str]:
    yield from (row.subject, row.group or "", row.split or "", repr(row.lesion_free_slices))
    for path in (row.image, row.brain_mask, row.lesion_mask):
        yield _content(path) if path else ""


def _content(path: Path) -> str:
    """What a file holds; a file that is missing costs its row alone, when it is used."""
    try:
        stats = [file.stat() for file in files_of(path)]
        return _sha256(path, sum(s.st_size for s in stats), max(s.st_mtime_ns for s in stats))
    except (OSError, ValueError):  # missing, not allowed, or an empty folder
        return "unreadable"


@cache
def _sha256(path: Path, _size: int, _changed: int) -> str:
    return sha256_of(path)
