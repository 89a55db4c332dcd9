"""Commands killed at every file operation and at random moments, repeated, and compared with undisturbed ones.

    python -m benchmarks.hardening.kills --kills 300       # goes on where build/kills.jsonl ends
    python -m benchmarks.hardening.kills --kills 0         # the totals of that file

Each command that writes is killed, half of the times just before its k-th operation on a file (open for writing,
rename, remove, make a folder; k at random), else after a random time, with SIGKILL or, in a third, SIGTERM. With
``--jobs`` and on Dask, one of the workers is killed, or all processes at once. After a kill no file may be
half-written, and every file that a manifest names must have the contents it names. The command is then repeated, and
perhaps killed again; once it ends, the folder must equal that of an undisturbed run, bit for bit but for files with
seconds or dates in them. A command that refuses because its output exists has ended, if the output is whole.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.hardening.commands import CASES, IN_WORKERS, Bench, Case, Ended, bench
from uadtk.core.errors import INTERRUPTED

STORE = Path("build/kills.jsonl")
STOPPED = (-signal.SIGKILL, -signal.SIGTERM, INTERRUPTED)
# Audit events of Python that change files; an "open" counts if it is for writing.
_CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "shutil.rmtree")


class Operations:
    """Counts the file operations of this process, and kills it before the k-th."""

    def __init__(self, k: int, number: int) -> None:
        self.left, self.number = k, number

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _CHANGES or (event == "open" and not _writes(arguments)):
            return
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)


def _writes(arguments: tuple[Any, ...]) -> bool:
    path, _, flags = arguments
    return bool(flags & (os.O_WRONLY | os.O_RDWR)) and not str(path).startswith("/dev/")


def chain(made: Bench, case: Case, draw: random.Random, whole_s: float, operations: int) -> list[dict[str, Any]]:
    """Kill the command again and again until a run ends; a record of each kill, the last with how it ended."""
    made.fresh(case)
    records = list[dict[str, Any]]()
    while True:
        number = draw.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
        how: dict[str, Any] = {"command": case.name, "signal": signal.Signals(number).name}
        if len(records) >= 6:
            ended = made.run(case)
        elif not case.workers and draw.random() < 0.5:
            k = draw.randint(1, operations + 2)
            how |= {"operation": k}
            ended = made.ended(made.start(case, partial(sys.addaudithook, Operations(k, number))))
        else:
            how |= {"after_s": round(draw.uniform(0, 1.2 * whole_s), 3), "worker": case.workers and draw.random() < 0.7}
            ended, killed = _killed_after(made, case, how["after_s"], number, how["worker"])
            how |= {"killed": killed}
        faults = made.faults(case)
        over, wrong = _over(made, case, ended)
        killed = how.pop("killed", True) and (how.get("worker") or ended.code in STOPPED)
        if killed or faults or wrong:
            records.append({**how, "code": ended.code, "faults": faults + wrong})
        if over:
            if records:
                records[-1]["ended"] = True
            return records


def _over(made: Bench, case: Case, ended: Ended) -> tuple[bool, list[str]]:
    """Whether the command needs no repetition, and what is wrong with that."""
    if ended.code in STOPPED:
        return False, []
    if ended.code == 0 or (ended.code == 2 and "output exists" in ended.err):
        return True, made.end_faults(case)
    return True, [f"exit code {ended.code}: {ended.err[-1000:]}"]


def _killed_after(made: Bench, case: Case, seconds: float, number: int, worker: bool) -> tuple[Ended, bool]:
    """Kill one of the processes that the command has started, or all of them, if it has not ended by then."""
    process, end, killed = made.start(case), time.monotonic() + seconds, False
    while time.monotonic() < end and not _is_over(process):
        time.sleep(0.005)
    if not _is_over(process):
        below = [child for child in descendants(process) if worker]
        if not worker:
            os.killpg(process, number)
            killed = True
        elif below:
            os.kill(random.choice(below), signal.SIGKILL)
            killed = True
    ended = made.ended(process)
    for child in _group(process):  # workers notice that their parent is gone, after a while
        os.kill(child, signal.SIGKILL)
    return ended, killed


def _is_over(process: int) -> bool:
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def descendants(process: int) -> list[int]:
    """Of all threads: Dask starts its workers from another than the first."""
    own = list[int]()
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):
            own += [int(child) for child in path.read_text().split()]
    return [*own, *(below for child in own for below in descendants(child))]


def _group(leader: int) -> list[int]:
    """What is left of the process group: processes this campaign has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == leader and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def totals(records: list[dict[str, Any]]) -> str:
    lines = ["| command | kills | ends equal | faults |", "|---|---|---|---|"]
    kills, ends, faults = Counter[str](), Counter[str](), Counter[str]()
    for record in records:
        name = record["command"]
        kills[name] += 1
        ends[name] += record.get("ended", False) and not record["faults"]
        faults[name] += bool(record["faults"])
    rows = [(case.name, *(each[case.name] for each in (kills, ends, faults))) for case in (*CASES, *IN_WORKERS)]
    rows.append(("all", kills.total(), ends.total(), faults.total()))
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows if row[1])])


def campaign(made: Bench, cases: list[Case], kills: int, store: Path, seed: int = 0) -> list[dict[str, Any]]:
    """All records once there are so many; each chain is stored in ``store``, and those there are counted."""
    records = [json.loads(line) for line in store.read_text().splitlines()] if store.exists() else []
    size = dict[Case, tuple[float, int]]()
    chains = Counter[str]()  # also of those that ended before their kill came
    while len(records) < kills:
        done = Counter(record["command"] for record in records)
        case = min(cases, key=lambda case: done[case.name] * (4 if case.workers else 1))  # those take minutes
        if case not in size:
            size[case] = _measured(made, case)
        chains[case.name] += 1
        draw = random.Random(f"{seed} {case.name} {len(records)} {chains[case.name]}")
        for record in chain(made, case, draw, *size[case]):
            records.append(record)
            print(json.dumps(record), file=sys.stderr, flush=True)
            with store.open("a") as file:
                file.write(json.dumps(record) + "\n")
    return records


def _measured(made: Bench, case: Case) -> tuple[float, int]:
    """Seconds and file operations of an undisturbed run."""
    made.wanted(case)
    made.fresh(case)
    tally, counter = made.folder / "operations", Operations(-1, 0)

    def tell() -> None:
        tally.write_text(str(-1 - counter.left))

    begin = time.monotonic()
    made.ended(made.start(case, lambda: sys.addaudithook(counter), tell))
    return time.monotonic() - begin, int(tally.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=300, help="in all, with those in the store")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--command", action="append", help="only this one; repeat it")
    parser.add_argument("--store", type=Path, default=STORE)
    given = parser.parse_args()
    given.store.parent.mkdir(exist_ok=True)
    if given.kills:
        with bench(given.command or [case.name for case in (*CASES, *IN_WORKERS)]) as (made, cases):
            campaign(made, cases, given.kills, given.store, given.seed)
    records = [json.loads(line) for line in given.store.read_text().splitlines()]
    print(totals(records))
    sys.exit(any(record["faults"] for record in records))


if __name__ == "__main__":
    main()
