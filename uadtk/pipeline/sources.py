"""Cohorts as commands and scripts name them; the input of provenance, and a check that it is what was read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from uadtk.core.absent import absence
from uadtk.core.errors import DataError, UadtkError
from uadtk.core.run import Run
from uadtk.core.volume import Mask, Scan, Volume
from uadtk.io.cohort import Cohort, Row, output_name, read_cohort, refuse_copies
from uadtk.io.parts import image_sha256, read_by
from uadtk.io.read import located
from uadtk.io.readers.dicom_files import series_at

PathLike = str | os.PathLike[str]
CohortLike = PathLike | Sequence[PathLike] | Cohort
IN_MEMORY = "in memory"


@contextmanager
def source_of_row(row: Row) -> Iterator[dict[str, Any]]:
    """The input of provenance, for a block that reads the files of a row.

    Raises DataError if they are others at its end: digest and data would be of different files.
    """
    before = describe(row)
    yield before
    if describe(row) != before:
        raise DataError("changed while it was read", str(row.image), "Run the command again once it is complete.")


def describe(row: Row) -> dict[str, Any]:
    """Paths and digests of the files of a row that a segmentation reads, and the plugins that may read them."""
    for path in filter(None, (row.image, row.brain_mask)):
        if not path.exists():
            what, fix = absence(path)
            raise DataError(what, str(path), fix)
    with located(row.image):
        digest, series = image_sha256(row.image), series_at(row.image)
    source: dict[str, Any] = {"path": str(row.image), "absolute": os.path.abspath(row.image)}
    source |= {**({"subject": row.subject} if row.subject else {}), "sha256": digest}
    if series:
        source["series"] = series
    if readers := read_by((row.image, row.brain_mask)):
        source["readers"] = readers
    if row.brain_mask is None:
        return {**source, "brain_mask": "", "brain_mask_sha256": ""}
    with located(row.brain_mask):
        return {**source, "brain_mask": str(row.brain_mask), "brain_mask_sha256": image_sha256(row.brain_mask)}


@contextmanager
def source_of(scan: Any, brain_mask: Any, subject: str) -> Iterator[dict[str, Any]]:
    """The same where either may be in memory; what is must be added by ``completed``."""
    if not is_path(scan):
        yield {}
        return
    with source_of_row(Row(subject, Path(scan), Path(brain_mask) if is_path(brain_mask) else None)) as source:
        yield source


def completed(source: dict[str, Any], image: Scan, brain_mask: Mask | None) -> dict[str, Any]:
    """The input of provenance, with digests of what was given in memory (voxels in C order, and affine)."""
    if not source:
        source = {"path": IN_MEMORY, "sha256": _digest(image), "brain_mask": "", "brain_mask_sha256": ""}
    if brain_mask is not None and not source["brain_mask"]:
        source = {**source, "brain_mask": IN_MEMORY, "brain_mask_sha256": _digest(brain_mask)}
    return {**source, **noticed(image, brain_mask)}


def noticed(scan: Scan, brain_mask: Mask | None) -> dict[str, Any]:
    """The notes and facts of the readers."""
    about_mask = [] if brain_mask is None else [f"brain mask: {note}" for note in brain_mask.notes]
    found = {"notes": [*scan.notes, *about_mask], "facts": dict(scan.facts)}
    return {key: value for key, value in found.items() if value}


def row_of(scan: Any) -> Row | None:
    """The row of a scan's path in a cohort of it alone; None if there is none, as for a scan in memory."""
    with suppress(UadtkError):
        return read_cohort(scan).rows[0] if is_path(scan) else None
    return None


def name_of(scan: Any, image: Scan, row: Row | None) -> str:
    """What the outputs are called. A DICOM folder may bear a patient's name, so its tags decide, as for a cohort."""
    if not is_path(scan):
        return "scan"
    return output_name(row if row and "SeriesInstanceUID" in image.facts else Path(scan))


def is_path(source: Any) -> bool:
    return isinstance(source, str | os.PathLike)


def _digest(volume: Volume) -> str:
    return hashlib.sha256(np.ascontiguousarray(volume.voxels).tobytes() + volume.affine.tobytes()).hexdigest()


def as_cohort(source: CohortLike, run: Run) -> Cohort:
    """Read it unless it is one already, and report what was found and is not used."""
    if isinstance(source, Cohort):
        return source
    cohort = read_cohort(source)
    for note in cohort.notes:
        run.say(f"note: {note}")
    return cohort


def chosen_rows(source: CohortLike, split: str, run: Run) -> Cohort:
    cohort = as_cohort(source, run)
    refuse_copies(cohort, across_splits=True)
    return cohort.split(split) if split else cohort
