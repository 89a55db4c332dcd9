"""Scans done by the workers of a Dask cluster (``--cluster``), bit for bit as by one process with one thread.

The work, and with it the checkpoint, is sent to a worker once. Scans and outputs must be at the same paths everywhere.
A worker that dies costs its scan another try. Dask blames every scan that was waiting on a worker when it died; those
that it gives up are done once more, each with nothing else on the cluster, and have failed if workers die again.
"""

from __future__ import annotations

import pickle
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

from uadtk.core.errors import BackendError, UadtkError
from uadtk.core.machine import share_threads, usable_cores
from uadtk.core.run import Run
from uadtk.io.cohort import Row
from uadtk.pipeline.workers import attempt

LOCAL = "local"
RETRIES = 2
_AHEAD = 4  # scans per worker that may be done before their turn
_WAIT_S = 30
_one_scan = threading.Lock()  # of a process at a time: kernels are parallel themselves


@contextmanager
def clustered(rows: Sequence[Row], work: Any, run: Run) -> Iterator[Callable[[int], Any]]:
    """``result(place)`` for the places of ``rows`` in order: what ``work`` returns, or raises, for that row.

    Raises
    ------
    BackendError
        Dask is not installed, or no scheduler or no worker answers.
    """
    with ExitStack() as stack:
        client = stack.enter_context(_client(run))
        try:
            client.wait_for_workers(1, timeout=_WAIT_S)
        except Exception as error:  # TimeoutError of several kinds
            raise BackendError("has no workers", f"--cluster {run.cluster}", "Start dask worker.") from error
        packed, settings = pickle.dumps(work), run.settings()
        futures: dict[int, Any] = {}

        def sent() -> Any:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Sending large graph")
                return client.submit(_received, packed, pure=False)

        def submit(held: Any, place: int) -> Any:
            return client.submit(_scan, held, place, rows[place], settings, pure=False, retries=RETRIES)

        def ended(place: int) -> Any:
            try:
                return futures[place].result()
            except Exception as error:
                if not _is_death(error):
                    raise
            for other in futures.values():
                if other is not None:
                    other.exception()  # waits for its end
            return submit(sent(), place).result()

        held = sent()

        def result(place: int) -> Any:
            workers = max(1, len(client.scheduler_info()["workers"]))
            for following in range(place, min(len(rows), place + _AHEAD * workers)):
                if following not in futures:
                    run.begun(following)
                    futures[following] = submit(held, following)
            try:
                value, lines = ended(place)
            except Exception as error:
                raise _as_error(error, rows[place]) from error
            futures[place] = None  # done; its value is released
            for line in lines:
                run.say(line)
            if isinstance(value, Exception):
                raise value
            return value

        yield result


@contextmanager
def _client(run: Run) -> Iterator[Any]:
    try:
        from distributed import Client
    except ImportError:
        fix = 'pip install "uadtk[cluster]"'
        raise BackendError("needs Dask, which is not installed", "--cluster", fix) from None
    with ExitStack() as stack:
        if run.cluster == LOCAL:
            jobs = run.jobs if run.jobs > 1 else usable_cores()
            address: Any = stack.enter_context(_local(jobs))
        else:
            address = run.cluster
        try:
            client = stack.enter_context(Client(address, timeout=_WAIT_S, set_as_default=False))
        except (OSError, ValueError) as error:
            what = f"no scheduler answers ({error})"
            raise BackendError(what, f"--cluster {run.cluster}", "Start dask scheduler, or use 'local'.") from error
        yield client


def _local(workers: int) -> Any:
    from distributed import LocalCluster

    start = partial(LocalCluster, n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None)
    with suppress(RuntimeError):  # a worker died as it started: once more, as for one that dies later
        return start()
    try:
        return start()
    except RuntimeError as error:
        raise BackendError(f"Dask's workers do not start ({error})", "--cluster local", "Try again.") from error


def _is_death(error: Exception) -> bool:
    return type(error).__name__ == "KilledWorker"


def _received(packed: bytes) -> Any:
    """The work, built on a worker, where it stays."""
    share_threads(1)
    return pickle.loads(packed)


def _scan(work: Any, place: int, row: Row, settings: dict[str, Any]) -> tuple[Any, list[str]]:
    lines: list[str] = []
    with _one_scan:
        share_threads(1)
        return attempt(work, place, row, Run(say=lines.append, **settings)), lines


def _as_error(error: Exception, row: Row) -> UadtkError:
    """An error of Dask as one of the scan, or of the run."""
    if _is_death(error):
        return UadtkError("the workers that did it died", str(row.image), "Is there enough memory on the workers?")
    return BackendError(f"the cluster failed ({type(error).__name__}: {error})", "--cluster")
