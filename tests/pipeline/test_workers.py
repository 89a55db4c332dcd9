"""The loop over scans on several processes: the same outcomes in the same order, and a process may die."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from uadtk.core.errors import BackendError, DataError, GateError, OutOfMemoryError, StorageError, UadtkError
from uadtk.core.run import Run
from uadtk.io.cohort import Row
from uadtk.pipeline import workers
from uadtk.pipeline.each import each

ROWS = [Row(name, Path(f"{name}.nii.gz")) for name in "abcdef"]


@dataclass(frozen=True)
class Job:
    """Gives the subject in capitals; what happens to subject ``b`` first is up to ``trouble``."""

    trouble: str = ""
    folder: Path | None = None
    times: int = 1

    def __call__(self, place: int, row: Row, run: Run) -> str:
        run.say(f"{row.subject} by one of {os.getppid()}")
        if row.subject == "a":
            time.sleep(0.2)  # the others are done before
        if row.subject == "b" and self.trouble:
            tries = 0 if self.folder is None else len(list(self.folder.iterdir()))
            if self.folder is not None and tries < self.times:
                (self.folder / f"{tries}").touch()
            if self.folder is None or tries < self.times:
                TROUBLES[self.trouble]()
        return row.subject.upper()


def _raise(error: Exception) -> Callable[[], None]:
    def now() -> None:
        raise error

    return now


TROUBLES: dict[str, Callable[[], Any]] = {
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: os._exit(3),
    "sys.exit": sys.exit,
    "gate": _raise(GateError("is a T1", "b.nii.gz")),
    "bug": lambda: 1 // 0,
    "full": _raise(StorageError("cannot be written", "/out")),
    "memory": _raise(OutOfMemoryError("not enough memory", "b.nii.gz")),
}


def walk(job: Job, jobs: int = 2, rows: list[Row] = ROWS) -> tuple[list[Any], list[str], list[int]]:
    """Values or errors, lines said, and places begun."""
    said, begun = list[str](), list[int]()
    run = Run(say=said.append, jobs=jobs, begun=begun.append)
    return [outcome.value or outcome.error for outcome in each(rows, job, run, "working")], said, begun


@pytest.mark.slow
def test_values_come_in_the_order_of_the_rows_and_lines_with_them() -> None:
    values, said, begun = walk(Job())
    assert values == list("ABCDEF")
    assert said == [f"{name} by one of {os.getpid()}" for name in "abcdef"]
    assert sorted(begun) == list(range(6))


@pytest.mark.slow
@pytest.mark.parametrize(("trouble", "kind", "words"), [("gate", GateError, "is a T1"), ("bug", UadtkError, "by zero")])
def test_an_error_comes_back_as_it_is(trouble: str, kind: type[UadtkError], words: str) -> None:
    values, said, _ = walk(Job(trouble))
    assert isinstance(values[1], kind)
    assert words in values[1].one_line()
    assert [value for value in values if isinstance(value, str)] == list("ACDEF")
    assert len([line for line in said if line.startswith("b: failed: ")]) == 1


@pytest.mark.slow
def test_what_is_not_about_a_scan_stops_the_run() -> None:
    with pytest.raises(StorageError, match="/out: cannot be written"):
        walk(Job("full"))


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["killed", "exit"])
def test_a_process_that_dies_costs_its_scan_a_retry(tmp_path: Path, trouble: str) -> None:
    values, said, _ = walk(Job(trouble, tmp_path))
    assert values == list("ABCDEF")
    how = "by SIGKILL" if trouble == "killed" else "with code 3"
    assert f"b: its process was ended {how}: tried again" in said


@pytest.mark.slow
def test_a_scan_of_which_every_process_dies_has_failed(tmp_path: Path) -> None:
    values, _, _ = walk(Job("exit"))
    assert [value for value in values if isinstance(value, str)] == list("ACDEF")
    assert values[1].one_line().startswith("b.nii.gz: its process was ended with code 3 3 times")


@pytest.mark.slow
def test_a_scan_without_memory_is_tried_again_on_its_own(tmp_path: Path) -> None:
    assert walk(Job("memory", tmp_path))[0] == list("ABCDEF")
    values, _, _ = walk(Job("memory"))
    assert isinstance(values[1], OutOfMemoryError)


def test_one_row_or_one_job_needs_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.subprocess, "Popen", lambda *_, **__: pytest.fail("started a process"))
    assert walk(Job(), jobs=1)[0] == list("ABCDEF")
    assert walk(Job(), jobs=2, rows=ROWS[:1])[0] == ["A"]


@pytest.mark.slow
def test_work_that_cannot_be_unpacked_is_one_error() -> None:
    def run_it() -> None:
        list(each(ROWS, Unpackable(), Run(jobs=2), "working"))

    with pytest.raises(BackendError, match=r"^--jobs: the work cannot be sent .*is of another version"):
        run_it()


class Unpackable:
    def __call__(self, *_: Any) -> str:
        return ""

    def __reduce__(self) -> Any:
        return _fail, ()


def _fail() -> None:
    raise DataError("is of another version") from ValueError()


@pytest.mark.slow
def test_no_process_outlives_the_loop() -> None:
    before = _children()  # of other tests
    outcomes = each(ROWS, Job(), Run(jobs=2), "working")
    assert next(outcomes).value == "A"
    children = _children() - before
    assert len(children) == 2
    outcomes.close()  # type: ignore[attr-defined]
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def _children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


@pytest.mark.slow
def test_fewer_processes_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "free_memory", lambda: 2 * workers.BYTES_A_PROCESS)
    values, said, _ = walk(Job(), jobs=5)
    assert values == list("ABCDEF")
    assert said[0] == "2 processes instead of 5: 3.0 GB of memory are free"
