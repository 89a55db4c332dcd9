"""Cohorts: which scans, of whom, with which masks, for which use. From a table, a folder, a BIDS tree or file names."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from uadtk.core.absent import absence
from uadtk.core.errors import DataError
from uadtk.core.machine import BYTES_A_VOXEL, require_memory
from uadtk.core.run import Run
from uadtk.core.volume import Mask, Scan
from uadtk.io.copies import Distinct, digest_of_scan, refuse_copies
from uadtk.io.masks import grid_of
from uadtk.io.names import output_name, output_names, safe_name
from uadtk.io.own import is_own
from uadtk.io.read import located, read_lesion_mask, read_mask, read_scan
from uadtk.io.readers import IMAGE, bids, folder
from uadtk.io.readers.dicom import studies_in
from uadtk.io.rows import COLUMNS, NAME_MASKS, Cohort, Row, content_digest
from uadtk.io.table import is_table, read_table

__all__ = [
    "COLUMNS",
    "NAME_MASKS",
    "Cohort",
    "Distinct",
    "Row",
    "content_digest",
    "digest_of_scan",
    "output_name",
    "output_names",
    "read_cohort",
    "read_lesion",
    "read_row",
    "refuse_copies",
    "safe_name",
]

PathLike = str | os.PathLike[str]


def read_cohort(source: PathLike | Sequence[PathLike]) -> Cohort:
    """A cohort from one source or several.

    * a table (.tsv, .csv, .txt): columns ``subject`` and ``image``, and any others of ``Row``, as ``uadtk.io.table``
      reads them; paths are relative to the table;
    * a BIDS tree, or the folder of one subject: ``sub-*/[ses-*/]anat/*_FLAIR.nii[.gz]``, with ``participants.tsv``;
    * a folder of images, except those named as masks;
    * DICOM: a folder without other images, a zip, or a file of a series; each study is one scan;
    * an image.

    Beside images that no table lists, and in the BIDS tree's ``derivatives``, masks named after the image are taken:
    ``..._desc-brain_mask.nii[.gz]`` and ``..._label-lesion_mask.nii[.gz]``. One that is there and cannot be used makes
    the row fail when it is read. Outputs of uadtk are used neither as scans nor as masks. ``Cohort.notes`` reports
    files that were found and are not used.

    Raises
    ------
    DataError
        Nothing there, a table that cannot be understood, two masks for one image, a subject in two splits, or not one
        image that exists.
    """
    sources = [Path(source)] if isinstance(source, str | os.PathLike) else [Path(s) for s in source]
    rows, loose, folders, notes = list[Row](), list[Path](), list[Path](), list[str]()
    seen: set[str] = set()
    for path in sources:
        found, more = list[Row](), list[str]()
        with located(path):
            if not path.is_dir() and is_table(path):
                found, more = read_table(path)
            elif (scans := _dicom(path, seen)) is not None:
                found = scans
            elif not path.is_dir():
                loose.append(path)
            elif bids.is_bids(path):
                found, more = bids.bids_rows(path)
            else:
                loose += folder.images_in(path)
                folders.append(path)
        rows += found
        notes += more
    found, more = folder.rows_of(loose, folders)
    rows += found
    notes += more
    shown = str(sources[0]) if len(sources) == 1 else f"{len(sources)} sources"
    if rows and not any(os.path.exists(row.image) for row in rows):
        first = next((row.image for row in rows if row.image.is_symlink()), rows[0].image)
        what, fix = absence(first)
        if len(rows) > 1:
            which = f"{first}, which {what}" if first.is_symlink() else str(first)
            what = f"none of the {len(rows)} images exists, such as {which}"
        elif first.is_symlink() and str(first) != shown:
            what = f"{first} {what}"
        raise DataError(what, shown, fix)
    return Cohort(tuple(rows), shown, tuple(notes))


def _dicom(path: Path, seen: set[str]) -> list[Row] | None:
    """A row per study of a zip, a folder that holds no other images but ours, or a file; None if there is no DICOM.

    A file of a volume that was ``seen`` gives no row: all files of a series may be named, and are one scan.
    """
    if not path.exists() or (path.is_dir() and any(IMAGE.search(p.name) and not is_own(p) for p in path.rglob("*"))):
        return None
    studies = studies_in(path)
    fresh = [study for study in studies if study.volume not in seen]
    seen.update(study.volume for study in fresh if study.volume)
    return [Row(study.subject, study.path) for study in fresh] if studies else None


def read_row(row: Row, run: Run) -> tuple[Scan, Mask | None]:
    """The scan of a row, and its brain mask if the row has one; ``run.say`` reports the notes of the readers.

    Raises as ``read_scan`` and ``read_mask``, and OutOfMemoryError, before anything is read, for a scan that could be
    read but not processed.
    """
    if os.path.isfile(row.image) and (grid := grid_of(row.image)) is not None:
        require_memory(math.prod(grid.shape) * BYTES_A_VOXEL, "processing it")
    scan = read_scan(row.image, run.trust)
    for note in scan.notes:
        run.say(f"{row.subject}: {note}")
    if row.brain_mask is None:
        return scan, None
    brain = read_mask(row.brain_mask, like=scan)
    for note in brain.notes:
        run.say(f"{row.subject}: brain mask: {note}")
    return scan, brain


def read_lesion(row: Row, scan: Scan) -> Mask | None:
    """The known lesions of a row; an empty mask is a scan without any. Raises as ``read_lesion_mask``."""
    return read_lesion_mask(row.lesion_mask, scan, row.lesion_labels) if row.lesion_mask else None
