"""Output names in a folder that holds results already."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from uadtk.core.errors import UadtkError
from uadtk.io.cohort import Row, output_name, output_names
from uadtk.io.names import with_numbers
from uadtk.io.parts import image_sha256
from uadtk.io.readers.dicom_files import series_at
from uadtk.io.results import read_scan, scan_place, series_in


def names_in(folder: Path, rows: Sequence[Row], numbered: bool = False) -> tuple[str, ...]:
    """``output_names``, but a scan that the folder holds keeps its name when others of that name come.

    That concerns rows that share a name, as the studies of a patient do. ``numbered``: also a row that shares it with
    no other row but with a scan of the folder gets a number; it is otherwise refused when its turn comes.
    """
    names = list(output_names(rows))
    groups: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(output_name(row).casefold(), []).append(place)
    for places in groups.values():
        if len(places) == 1 and not numbered:
            continue
        bases = {place: output_name(rows[place]) for place in places}
        held = {name: source for base in {*bases.values()} for name, source in _held(folder, base, len(places))}
        kept = _kept({place: rows[place] for place in places}, held, folder)
        others = (name for place, name in enumerate(names) if place not in places)
        taken = {name.casefold() for name in (*held, *others)}
        for place, base in bases.items():
            names[place] = kept.get(place) or next(name for name in with_numbers(base) if name.casefold() not in taken)
            taken.add(names[place].casefold())
    return tuple(names)


def _held(folder: Path, base: str, least: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Names of the folder's scans with that base, and their inputs; at least so many numbers are looked at."""
    for number, name in enumerate(with_numbers(base), 1):
        state = read_scan(folder, name)
        if state is not None:
            source = (state.provenance or state.failure).get("input")
            yield name, source if isinstance(source, dict) else {}
        elif number > least:
            return


def _kept(rows: Mapping[int, Row], held: Mapping[str, Mapping[str, Any]], folder: Path) -> dict[int, str]:
    """The names that rows have already: those of their paths, else of their bytes, as a scan may have moved.

    Else those of their DICOM series: a file of it that came later may be the first now, for which a row stands.
    """
    by_path = {str(scan_place(folder, source)): name for name, source in held.items()}
    kept = {place: by_path[path] for place, row in rows.items() if (path := os.path.abspath(row.image)) in by_path}
    for mark, known in ((image_sha256, lambda source: str(source.get("sha256"))), (series_at, series_in)):
        others = {known(source): name for name, source in held.items() if name not in kept.values()}
        for place, row in rows.items():
            if others and place not in kept:
                try:
                    found = mark(row.image)
                except (OSError, UadtkError):  # it fails when its turn comes
                    continue
                if found and (name := others.pop(found, "")):
                    kept[place] = name
    return kept
