"""What has arrived in a folder: files, folders and loose DICOM series that have stopped growing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

from uadtk.core.errors import UadtkError
from uadtk.core.run import Run
from uadtk.io.cohort import Row, read_cohort
from uadtk.io.parts import halves_of
from uadtk.io.readers.dicom_files import series_at

POLL_S = 1.0
_ON_ITS_WAY = (".part", ".partial", ".tmp", ".crdownload", ".filepart")

State = tuple[tuple[str, int, int], ...]


def arrivals(
    folder: Path, settle_s: float, once: bool, run: Run, sleep: Callable[[float], None] = time.sleep
) -> Iterator[list[Row]]:
    """The scans of each file or folder in ``folder`` that has not changed for ``settle_s`` seconds; again if it does.

    One without a scan is reported. Hidden ones, and those that programs name as on their way, are not looked at. An
    empty list says that all that is complete has been given. ``once``: end when all that is there has been given.
    """
    seen: dict[Path, tuple[State, float]] = {}
    given: dict[Path, State] = {}
    while True:
        before = dict(given)
        for entry, state in _entries(folder).items():
            now = time.monotonic()
            if not state or given.get(entry) == state:
                continue
            if seen.get(entry, (None, 0.0))[0] != state:
                seen[entry] = state, now
            if now - seen[entry][1] >= settle_s:
                given[entry] = state
                if rows := _rows(entry, run):
                    yield rows
        if given != before:
            yield []
        if once and all(given.get(entry) == state for entry, state in _entries(folder).items() if state):
            return
        sleep(min(POLL_S, settle_s))


def _entries(folder: Path) -> dict[Path, State]:
    """What may be given, with the names, sizes and times of its files; no state if there are none (yet, or any more).

    Loose files of one DICOM series are one, under the first of them: given one by one, each would be the whole series.
    """
    found, firsts = dict[Path, State](), dict[str, Path]()
    for path in sorted(folder.iterdir()):
        if path.name[0] == "." or path.suffix in _ON_ITS_WAY:
            continue
        state = _state(path)
        series = _series(path, state) if len(state) == 1 and path.is_file() else ""
        first = firsts.setdefault(series, path) if series else path
        found[first] = (*found.get(first, ()), *state)
    return found


def _state(path: Path) -> State:
    try:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else halves_of(path)
        facts = ((file, file.stat()) for file in files)
        return tuple((str(file), found.st_size, found.st_mtime_ns) for file, found in facts)
    except OSError:
        return ()


@lru_cache(maxsize=100_000)
def _series(path: Path, _: State) -> str:
    """Of a DICOM file; empty for any other, and for one that cannot be read."""
    try:
        return series_at(path)
    except (UadtkError, OSError):
        return ""


def _rows(entry: Path, run: Run) -> list[Row]:
    try:
        return list(read_cohort(entry))
    except UadtkError as error:
        run.say(f"{entry}: not segmented: {error.one_line()}")
        return []
