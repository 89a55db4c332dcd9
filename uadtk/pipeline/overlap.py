"""Two scans at a time in one process: while the network works on one, the next is prepared and the last is written.

Every scan has a thread, of which there are two. What it does by ``run.turn``, its network and its observers, is done by
the calling thread, one step at a time: memory and cores are not shared between two networks, and ctrl-c ends a long
step at once. A thread that is to stop does so before its next stage, so that nothing is left half-written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from threading import Event
from typing import Any

from uadtk.core.errors import OutOfMemoryError
from uadtk.core.run import Run
from uadtk.io.cohort import Row
from uadtk.pipeline.workers import attempt

AT_ONCE = 2
PATIENCE_S = 0.2  # after which a thread that waits for its turn looks whether the run has ended
Steps = SimpleQueue[Callable[[], None]]


class _Stopped(BaseException):
    """Ends a thread; no scan has failed."""


@dataclass
class _Run(Run):
    """Of one scan."""

    stopped: Event = field(default_factory=Event)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        if self.stopped.is_set():
            raise _Stopped
        with super().stage(name):
            yield


@contextmanager
def overlapping(rows: Sequence[Row], work: Any, run: Run) -> Iterator[Callable[[int], Any]]:
    """``result(place)`` for the places of ``rows`` in order: what ``work`` returns, or raises, for that row."""
    steps, stopped, scans = Steps(), Event(), dict[int, Future[Any]]()

    def one(place: int) -> tuple[Any, list[str]]:
        if stopped.is_set():
            raise _Stopped
        lines: list[str] = []
        turn = partial(_in_turn, steps, stopped)
        own = _Run(say=lines.append, turn=turn, stopped=stopped, **run.settings())
        return attempt(work, place, rows[place], own), lines

    def wait_for(scan: Future[Any]) -> None:
        while not scan.done():
            steps.get()()

    def result(place: int) -> Any:
        # one more than there are threads: it begins as soon as one is free, whichever result is asked for then
        for following in range(len(scans), min(place + AT_ONCE + 1, len(rows))):
            run.begun(following)
            scans[following] = threads.submit(one, following)
            scans[following].add_done_callback(lambda _: steps.put(_nothing))
        wait_for(scans[place])
        value, lines = scans[place].result()
        scans[place] = _FORGOTTEN
        if isinstance(value, OutOfMemoryError):  # once more, with no other beside it
            for scan in scans.values():
                wait_for(scan)
            return work(place, rows[place], run)
        for line in lines:
            run.say(line)
        if isinstance(value, Exception):
            raise value
        return value

    with ThreadPoolExecutor(AT_ONCE, "scan") as threads:
        try:
            yield result
        finally:
            stopped.set()
            threads.shutdown(cancel_futures=True)


def _in_turn(steps: Steps, stopped: Event, step: Callable[[], Any]) -> Any:
    """Have the calling thread do it; its value, or what it raises."""
    done: Future[Any] = Future()

    def do() -> None:
        try:
            done.set_result(step())
        except Exception as error:
            done.set_exception(error)

    steps.put(do)
    while not wait([done], PATIENCE_S).done:
        if stopped.is_set():
            raise _Stopped
    return done.result()


def _nothing() -> None:
    pass


_FORGOTTEN: Future[Any] = Future()  # of a scan whose result has been taken
_FORGOTTEN.cancel()
