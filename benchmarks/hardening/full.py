"""The disk is full at every write of every command that writes, and has room again for the same command.

    python -m benchmarks.hardening.full --points 30

The output folder and TMPDIR are on a real file system of a few megabytes (tmpfs), of which a filler leaves a number of
pages, or of files, free. Each command is run with 0, 1, 2, ... free, up to what it needs (``--points`` of them, evenly
spaced, and all below 4). A run that the room does not suffice for must end with exit code 1 and one line that says so,
and leave no half-written file and no scratch. The same command must then reach the end of an undisturbed run.

Mounting needs root, or user namespaces: ``unshare -rm python -m benchmarks.hardening.full``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.hardening.commands import Bench, Case, bench, stages

SIZE = 48 << 20
FILES = 4096
MESSAGES = ("No space left on device", "not all could be written")


@contextmanager
def small_disk(made: Bench) -> Iterator[None]:
    """In the block, the bench's output folder and TMPDIR are on a file system of ``SIZE`` bytes and ``FILES`` files."""
    place = made.folder / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},nr_inodes={FILES}", "none", place], check=True)
    before = made.out, made.scratch
    made.out, made.scratch = place / "out", place / "tmp"
    try:
        made.out.mkdir()
        made.scratch.mkdir()
        yield
    finally:
        made.out, made.scratch = before
        subprocess.run(["umount", place], check=True)


@contextmanager
def left(place: Path, pages: int | None = None, files: int | None = None) -> Iterator[None]:
    """In the block, so many pages, or files, can be made on the file system."""
    filler, found = place / "filler", os.statvfs(place)
    filler.mkdir()
    if files is not None:
        for number in range(found.f_favail - 1 - files):
            (filler / str(number)).touch()
    if pages is not None and found.f_bavail > pages:
        with (filler / "data").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, (found.f_bavail - pages) * found.f_bsize)
    try:
        yield
    finally:
        for path in filler.iterdir():
            path.unlink()
        filler.rmdir()


def most_used(made: Bench, case: Case) -> tuple[int, int]:
    """Pages and files that an undisturbed run takes, about, at the moment it takes most."""
    made.fresh(case)
    place = made.folder / "small"
    before = now = os.statvfs(place)
    pages = files = 0
    process = made.start(case)
    while os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        now = os.statvfs(place)
        pages, files = max(pages, before.f_bavail - now.f_bavail), max(files, before.f_favail - now.f_favail)
        time.sleep(0.002)
    assert made.ended(process).code == 0
    return pages, files


def campaign(made: Bench, case: Case, points: int) -> tuple[Counter[str], list[str]]:
    """How the runs ended, and a line for each fault."""
    pages, files = most_used(made, case)
    ends: Counter[str] = Counter()
    faults = list[str]()
    for kind, most in (("pages", pages), ("files", files)):
        for room in _spread(most, points):
            made.fresh(case)
            with left(made.folder / "small", **{kind: room}):
                ended = made.run(case)
                wrong = [*made.faults(case), *(f"scratch {name}" for name in stages(made))]
            lines = [line for line in ended.err.splitlines() if line.startswith("uadtk: ")]
            if ended.code == 0:
                ends["enough"] += 1
                wrong += made.end_faults(case)
            else:
                ends["full"] += 1
                if (
                    ended.code != 1
                    or "Traceback" in ended.err
                    or len(lines) != 1
                    or not any(message in lines[0] for message in MESSAGES)
                ):
                    wrong.append(f"exit code {ended.code}: {ended.err[-1500:]}")
                again = made.run(case)
                wrong += [f"not again: {again.err[-1500:]}"] if again.code else made.end_faults(case)
            faults += [f"{case.name}, {room} {kind} left: {what}" for what in wrong]
            ends["faults"] += bool(wrong)
    return ends, faults


def _spread(most: int, points: int) -> Sequence[int]:
    return sorted({*range(4), *(round(most * step / points) for step in range(points + 1))})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=30, help="of free pages, and of free files, for each command")
    parser.add_argument("--command", action="append", help="only this one; repeat it")
    given = parser.parse_args()
    faults = list[str]()
    print("| command | disk full | room enough | faults |\n|---|---|---|---|", flush=True)
    with bench(given.command) as (made, cases), small_disk(made):
        for case in cases:
            made.wanted(case)
            ends, found = campaign(made, case, given.points)
            faults += found
            print(f"| {case.name} | {ends['full']} | {ends['enough']} | {ends['faults']} |", flush=True)
            print("\n".join(found), file=sys.stderr, flush=True)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
