"""Cohort tables, written in the format ``read_cohort`` reads."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from uadtk.io.cohort import COLUMNS, Row
from uadtk.io.write import write_text


def write_cohort(path: Path, rows: Iterable[Row]) -> None:
    """Write ``cohort.tsv``, with file names for files in its folder and full paths for others.

    Paths are written with slashes, which every system reads. Columns without values are left out.

    Raises as ``write_bytes``.
    """
    rows = list(rows)
    columns = [name for name in COLUMNS if any(getattr(row, name) is not None for row in rows)]
    out = io.StringIO()
    table = csv.writer(out, delimiter="\t", lineterminator="\n")
    table.writerow(columns)
    table.writerows([_cell(getattr(row, name), path.parent) for name in columns] for row in rows)
    write_text(path, out.getvalue())


def _cell(value: Any, folder: Path) -> str:
    if isinstance(value, Path):
        return value.name if value.parent == folder else value.absolute().as_posix()
    return " ".join(map(str, value)) if isinstance(value, tuple) else value or ""
