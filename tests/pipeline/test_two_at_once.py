"""Two scans at a time in one process: the same outcomes in the same order, one network at a time, a clean end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.test_archive import NAMES, method, rows  # noqa: F401
from uadtk.core.errors import BackendError, DataError, OutOfMemoryError, UadtkError
from uadtk.core.run import Run
from uadtk.io.cohort import Row
from uadtk.pipeline import each as loop
from uadtk.pipeline.archive import segment_cohort
from uadtk.pipeline.each import each
from uadtk.pipeline.score import Method
from uadtk.pipeline.segment import Rules

ROWS = [Row(name, Path(f"{name}.nii.gz")) for name in "abcdef"]
PATIENCE_S = 20.0


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "usable_cores", lambda: 2)


class Job:
    """Prepares, has its turn and writes; ``trouble`` happens to subject ``b`` in the part of that name."""

    def __init__(self, **trouble: Callable[[], Any]) -> None:
        self.trouble = trouble
        self.parts: list[tuple[str, str]] = []
        self.threads: set[int] = set()

    def part(self, name: str, row: Row) -> None:
        self.parts.append((name, row.subject))
        if row.subject == "b" and name in self.trouble:
            self.trouble[name]()

    def network(self, row: Row) -> str:
        self.threads.add(threading.get_ident())
        self.part("network", row)
        return row.subject.upper()

    def __call__(self, _place: int, row: Row, run: Run) -> str:
        run.say(f"{row.subject} is read")
        with run.stage("prepare"):
            self.part("prepare", row)
        found: str = run.turn(lambda: self.network(row))
        with run.stage("write"):
            self.part("write", row)
        return found


def walk(job: Job) -> tuple[list[Any], list[str], list[int]]:
    """Values or errors, lines said, and places begun."""
    said, begun = list[str](), list[int]()
    run = Run(say=said.append, begun=begun.append)
    outcomes = list(each(ROWS, job, run, "working", overlap=True))
    return [outcome.value or outcome.error for outcome in outcomes], said, begun


def raising(error: BaseException) -> Callable[[], None]:
    def now() -> None:
        raise error

    return now


def ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("scan")]


def test_outcomes_and_lines_come_in_the_order_of_the_rows() -> None:
    values, said, begun = walk(Job())
    assert values == list("ABCDEF")
    assert said == [f"{name} is read" for name in "abcdef"]
    assert begun == list(range(6))
    assert ours() == []


def test_the_last_scan_is_written_and_the_next_prepared_while_the_network_works() -> None:
    """The network of ``b`` waits for both, and would wait for ever."""
    done = {(part, name): threading.Event() for part, name in (("write", "a"), ("prepare", "c"))}

    def both() -> None:
        assert all(event.wait(PATIENCE_S) for event in done.values())

    class Watched(Job):
        def part(self, name: str, row: Row) -> None:
            super().part(name, row)
            if event := done.get((name, row.subject)):
                event.set()

    assert walk(Watched(network=both))[0] == list("ABCDEF")


def test_no_more_than_two_scans_are_under_way() -> None:
    job = Job()
    walk(job)
    for place, (part, _) in enumerate(job.parts):
        before = [part for part, _ in job.parts[:place]]
        assert part != "prepare" or before.count("prepare") - before.count("write") < 2


def test_networks_run_in_the_calling_thread_in_order() -> None:
    job = Job()
    walk(job)
    assert job.threads == {threading.get_ident()}
    assert [name for part, name in job.parts if part == "network"] == list("abcdef")


@pytest.mark.parametrize("part", ["prepare", "network", "write"])
def test_an_error_is_that_of_its_scan(part: str) -> None:
    values, said, _ = walk(Job(**{part: raising(DataError("is cut short"))}))
    assert isinstance(values[1], DataError)
    assert [value for value in values if isinstance(value, str)] == list("ACDEF")
    assert [line for line in said if "failed" in line] == ["b: failed: b.nii.gz: is cut short"]


def test_an_unexpected_error_costs_one_scan() -> None:
    values, _, _ = walk(Job(network=raising(ZeroDivisionError("by zero"))))
    assert isinstance(values[1], UadtkError)
    assert "by zero" in values[1].one_line()


def test_a_scan_without_memory_is_tried_again_on_its_own() -> None:
    tries = list[int]()

    def full() -> None:
        tries.append(len(ours()))
        if len(tries) == 1:
            raise OutOfMemoryError("not enough memory")

    job = Job(prepare=full)
    assert walk(job)[0] == list("ABCDEF")
    assert len(tries) == 2
    again = len(job.parts) - 1 - job.parts[::-1].index(("prepare", "b"))
    assert job.parts[again + 1 : again + 3] == [("network", "b"), ("write", "b")]  # no other in between
    values, _, _ = walk(Job(prepare=raising(OutOfMemoryError("not enough memory"))))
    assert isinstance(values[1], OutOfMemoryError)


@pytest.mark.parametrize(
    ("part", "error"),
    [("network", KeyboardInterrupt()), ("network", BackendError("needs x")), ("write", BackendError("needs x"))],
)
def test_what_ends_the_run_ends_its_threads_and_begins_nothing(part: str, error: BaseException) -> None:
    job = Job(**{part: raising(error)})
    with pytest.raises(type(error)):
        walk(job)
    assert ours() == []
    assert {name for _, name in job.parts} <= set("abcd")


def test_who_stops_asking_gets_no_more_scans() -> None:
    job = Job()
    outcomes = each(ROWS, job, Run(), "working", overlap=True)
    assert next(outcomes).result == "A"
    outcomes.close()  # type: ignore[attr-defined]
    assert ours() == []
    assert ("network", "f") not in job.parts


def test_one_core_does_one_scan_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "usable_cores", lambda: 1)
    job = Job()
    walk(job)
    assert job.parts == [(part, name) for name in "abcdef" for part in ("prepare", "network", "write")]


def test_files_are_those_of_one_scan_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
    method: Method,  # noqa: F811
    rows: list[Row],  # noqa: F811
    tmp_path: Path,
) -> None:
    def files(cores: int) -> dict[str, bytes]:
        monkeypatch.setattr(loop, "usable_cores", lambda: cores)
        folder = tmp_path / str(cores)
        point = method.checkpoint.points[0]
        for outcome in segment_cohort(rows, NAMES, method, point, folder, Run(), Rules(), overwrite=False):
            assert outcome.error is None
        kept = (path for path in folder.iterdir() if path.suffix in (".gz", ".tsv", ".png"))
        return {path.name: path.read_bytes() for path in kept}

    assert len(files(1)) > 3 * len(NAMES)
    assert files(1) == files(2)
