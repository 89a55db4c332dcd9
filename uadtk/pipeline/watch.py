"""What has arrived in a folder: files and folders that have stopped growing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from uadtk.core.errors import UadtkError
from uadtk.core.run import Run
from uadtk.io.cohort import Row, read_cohort
from uadtk.io.memo import files_of

POLL_S = 1.0
_ON_ITS_WAY = (".part", ".partial", ".tmp", ".crdownload", ".filepart")

State = tuple[tuple[str, int, int], ...]


def arrivals(
    folder: Path, settle_s: float, once: bool, run: Run, sleep: Callable[[float], None] = time.sleep
) -> Iterator[list[Row]]:
    """The scans of each file or folder in ``folder`` that has not changed for ``settle_s`` seconds; again if it does.

    One without a scan is reported. Hidden ones, and those that programs name as on their way, are not looked at.
    ``once``: end when all that is there has been given.
    """
    seen: dict[Path, tuple[State, float]] = {}
    given: dict[Path, State] = {}
    while True:
        for entry in _entries(folder):
            state, now = state_of(entry), time.monotonic()
            if not state or given.get(entry) == state:
                continue
            if seen.get(entry, (None, 0.0))[0] != state:
                seen[entry] = state, now
            if now - seen[entry][1] >= settle_s:
                given[entry] = state
                if rows := _rows(entry, run):
                    yield rows
        if once and all(given.get(entry) == state_of(entry) for entry in _entries(folder) if state_of(entry)):
            return
        sleep(min(POLL_S, settle_s))


def state_of(entry: Path) -> State:
    """Names, sizes and times of its files; empty if there are none (yet, or any more)."""
    try:
        facts = ((file, file.stat()) for file in files_of(entry))
        return tuple((str(file), found.st_size, found.st_mtime_ns) for file, found in facts)
    except OSError:
        return ()


def _entries(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.name[0] != "." and path.suffix not in _ON_ITS_WAY]


def _rows(entry: Path, run: Run) -> list[Row]:
    try:
        return list(read_cohort(entry))
    except UadtkError as error:
        run.say(f"{entry}: not segmented: {error.one_line()}")
        return []
