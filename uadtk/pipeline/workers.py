"""Scans done by several processes of this machine (``--jobs``), bit for bit as by one with as many threads as each.

Each process is a fresh interpreter that gets the work, and with it the checkpoint, once, and then a scan at a time.
Memory decides with it: there are no more processes than have room, and a scan that finds none beside others is tried
again on its own. A process that dies costs its scan another try; if it dies as often as ``TRIES``, the scan has failed.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, NoReturn

from uadtk import registry
from uadtk.core.errors import BackendError, OutOfMemoryError, UadtkError
from uadtk.core.machine import free_memory, threads_here
from uadtk.core.run import Run
from uadtk.io.cohort import Row

TRIES = 3
BYTES_A_PROCESS = 1_500_000_000  # measured: 0.6 GB of libraries and model, 0.9 GB at the peak of a scan of 2 mm
_AHEAD = 4  # scans per process that may be done before their turn
_PATIENCE_S = 10.0

Result = Callable[[int], Any]


@dataclass
class _Task:
    """A scan to be done: how often a process died of it, and whether it must be done with no other beside it."""

    place: int
    died: int = 0
    alone: bool = False


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    pipe: Connection
    ready: bool = False
    task: _Task | None = None


@dataclass
class _Pool:
    rows: Sequence[Row]
    work: Any
    run: Run
    jobs: int
    threads: int
    workers: list[_Worker] = field(default_factory=list)
    waiting: list[_Task] = field(default_factory=list)
    done: dict[int, tuple[Any, list[str]]] = field(default_factory=dict)
    following: int = 0

    def result(self, place: int) -> Any:
        """The value of a scan, once it is done; asked for in the order of the rows. Raises what the work raised."""
        while place not in self.done:
            self._hand_out(place)
            speaking = wait([worker.pipe for worker in self.workers])
            for worker in [worker for worker in self.workers if worker.pipe in speaking]:
                self._receive(worker)
        value, lines = self.done.pop(place)
        for line in lines:
            self.run.say(line)
        if isinstance(value, Exception):
            raise value
        return value

    def close(self) -> None:
        for worker in self.workers:
            worker.pipe.close()  # ends one that waits; a signal could interrupt its exit
            if not worker.ready or worker.task is not None:
                worker.process.terminate()
        for worker in self.workers:
            try:
                worker.process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()

    def _hand_out(self, place: int) -> None:
        """Give every idle process a scan, as far as scans may be done before their turn."""
        busy = sum(worker.task is not None for worker in self.workers)
        while busy < self.jobs and (task := self._next(place, busy)):
            worker = next((w for w in self.workers if w.task is None), None) or self._start()
            worker.task = task
            self.run.begun(task.place)
            with suppress(OSError):  # it has died: ``_receive`` finds its pipe closed
                worker.pipe.send((task.place, self.rows[task.place]))
            busy += 1
            if task.alone:
                return

    def _next(self, place: int, busy: int) -> _Task | None:
        if any(worker.task is not None and worker.task.alone for worker in self.workers):
            return None
        for task in self.waiting:
            if not task.alone or not busy:
                self.waiting.remove(task)
                return task
        if self.waiting or self.following >= min(len(self.rows), place + _AHEAD * self.jobs):
            return None
        self.following += 1
        return _Task(self.following - 1)

    def _receive(self, worker: _Worker) -> None:
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            self._restart_task(worker)
            return
        if not worker.ready:
            if isinstance(message, Exception):
                raise message
            worker.ready = True
            return
        task, worker.task = worker.task, None
        assert task is not None
        value, _ = message
        if isinstance(value, OutOfMemoryError) and not task.alone and self.jobs > 1:
            self.waiting.append(_Task(task.place, task.died, alone=True))
            return
        self.done[task.place] = message

    def _restart_task(self, worker: _Worker) -> None:
        """Of a process that died. Alone, if the system killed the process: it does so for lack of memory."""
        self.workers.remove(worker)
        worker.pipe.close()
        code = worker.process.wait()
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
        if not worker.ready and code >= 0:
            raise BackendError(f"a process could not be started, it ended {how}", "--jobs", "Use --jobs 1.")
        if (task := worker.task) is None:
            return
        died, name = task.died + 1, self.rows[task.place].subject
        if died < TRIES:
            self.run.say(f"{name}: its process was ended {how}: tried again")
            self.waiting.append(_Task(task.place, died, task.alone or code == -signal.SIGKILL))
            return
        what = f"its process was ended {how} {TRIES} times"
        fix = "Run this scan alone; is there enough memory?"
        self.done[task.place] = UadtkError(what, str(self.rows[task.place].image), fix), []

    def _start(self) -> _Worker:
        ours, theirs = socket.socketpair()
        threads = {f"{library}_NUM_THREADS": str(self.threads) for library in ("OMP", "MKL", "NUMBA")}
        environment = {**os.environ, **threads, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-m", "uadtk.pipeline.workers", str(theirs.fileno())]
        with theirs:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=2, pass_fds=[theirs.fileno()]
            )
        worker = _Worker(process, Connection(ours.detach()))
        self.workers.append(worker)
        with suppress(OSError):  # it has died: ``_receive`` finds its pipe closed
            worker.pipe.send((self.work, self.run.settings()))
        return worker


@contextmanager
def processes(rows: Sequence[Row], work: Any, run: Run) -> Iterator[Result]:
    """``result(place)`` for the places of ``rows`` in order: what ``work`` returns, or raises, for that row."""
    jobs = min(run.jobs, len(rows))
    free = free_memory()
    room = jobs if free is None else max(1, free // BYTES_A_PROCESS)
    if room < jobs:
        run.say(f"{room} processes instead of {jobs}: {free / 1e9:.1f} GB of memory are free")  # type: ignore[operator]
    pool = _Pool(rows, work, run, min(jobs, room), max(1, threads_here() // jobs))
    try:
        yield pool.result
    finally:
        pool.close()


def attempt(work: Any, place: int, row: Row, run: Run) -> Any:
    """The value, or the error that prevented it."""
    from uadtk.io.read import located
    from uadtk.pipeline.each import as_error

    try:
        with located(row.image), registry.staying():
            return work(place, row, run)
    except Exception as error:
        return as_error(error, str(row.image))


class _Ended(BaseException):
    """The process was asked to end; no plugin has called sys.exit."""


def _serve(pipe: Connection) -> None:
    """The life of a process: work, then scans until the pipe ends. It ends with its parent."""

    def stop(*_: Any) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the whole group may get it, and then the parent's as well
        raise _Ended  # so that stages are removed

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal signals the whole group; the parent decides
    try:
        work, settings = pipe.recv()
    except Exception as error:  # of any kind: it would affect every scan, so it must stop the run
        pipe.send(BackendError(f"the work cannot be sent to a process ({error})", "--jobs", "Use --jobs 1."))
        return
    pipe.send("ready")
    with suppress(EOFError, OSError):
        while True:
            place, row = pipe.recv()
            lines: list[str] = []
            value = attempt(work, place, row, Run(say=lines.append, **settings))
            pipe.send((value, lines))


if __name__ == "__main__":
    try:
        _serve(Connection(int(sys.argv[1])))
    except _Ended:
        sys.exit(128 + signal.SIGTERM)
