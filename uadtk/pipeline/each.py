"""The one loop over the scans of a cohort, and the one policy for a scan that fails.

* An error fails one scan and is reported in one line, expected (``UadtkError``) or not; the next scan is tried.
* An error that says nothing about the scan stops the run: a missing library or device, a full disk.
* If there is only one scan, its error is raised unchanged, with the traceback if it was unexpected.

Nothing that failed is stored, so the same command tries it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

from uadtk import registry
from uadtk.core.errors import BackendError, DataError, OutOfMemoryError, UadtkError
from uadtk.core.machine import usable_cores
from uadtk.core.run import Run
from uadtk.io.cohort import Row
from uadtk.io.read import located
from uadtk.pipeline.cluster import clustered
from uadtk.pipeline.overlap import overlapping
from uadtk.pipeline.workers import processes

T = TypeVar("T")
U = TypeVar("U")
Work = Callable[[int, Row, Run], T]
"""What is done with one scan: index, row, and the ``Run`` of the process that does it."""


def unchanged(_place: int, _row: Row, value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """Result of the scan at index ``place``: its ``value``, or the ``error`` that prevented it."""

    place: int
    row: Row
    value: T | None = None
    error: UadtkError | None = None

    @property
    def result(self) -> T:
        """The value of a scan that did not fail."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]


@overload
def each(
    rows: Sequence[Row], work: Work[T], run: Run, doing: str, alone: bool | None = None, *, overlap: bool = False
) -> Iterator[Outcome[T]]: ...


@overload
def each(
    rows: Sequence[Row],
    work: Work[T],
    run: Run,
    doing: str,
    alone: bool | None = None,
    *,
    finish: Callable[[int, Row, T], U],
) -> Iterator[Outcome[U]]: ...


def each(
    rows: Sequence[Row],
    work: Work[Any],
    run: Run,
    doing: str,
    alone: bool | None = None,
    *,
    finish: Callable[[int, Row, Any], Any] = unchanged,
    overlap: bool = False,
) -> Iterator[Outcome[Any]]:
    """``finish(place, row, work(place, row, run))`` for every row in order, with a progress bar labelled ``doing``.

    ``work`` may be done by another process, and must then be picklable, as must its value; ``finish`` is done by this
    one, in the order of the rows. A failure of either is reported on one line. Errors without a location get the path
    of the scan. ``alone``: raise the error of a scan instead of reporting it; by default, if there is only one row.
    ``overlap``: with a core to spare, this process does two rows at a time, in threads (``uadtk.pipeline.overlap``).

    Raises
    ------
    UadtkError
        One that stops the run (``stops_run``), or that of the only row.
    """
    alone = len(rows) == 1 if alone is None else alone
    with _doing(rows, work, run, overlap) as result:
        for place, row in enumerate(run.track(rows, doing)):
            try:
                with located(row.image):
                    value = finish(place, row, result(place))
            except Exception as error:
                if alone and not isinstance(error, MemoryError):
                    raise
                if alone:
                    raise as_error(error, str(row.image)) from error
                failure = as_error(error, str(row.image))
                if failure is error and failure.stops_run:
                    raise
                if failure.stops_run:
                    raise failure from error
                run.say(f"{row.subject}: failed: {failure.one_line()}")
                yield Outcome(place, row, error=failure)
            else:
                yield Outcome(place, row, value)


def _doing(
    rows: Sequence[Row], work: Work[Any], run: Run, overlap: bool
) -> AbstractContextManager[Callable[[int], Any]]:
    """``result(place)``: what the work on that row returns or raises, by this process, several, or a cluster."""
    if run.cluster:
        return clustered(rows, work, run)
    if len(rows) > 1 and run.jobs > 1:
        return processes(rows, work, run)
    if len(rows) > 1 and overlap and usable_cores() > 1:
        return overlapping(rows, work, run)
    return _here(rows, work, run)


@contextmanager
def _here(rows: Sequence[Row], work: Work[Any], run: Run) -> Iterator[Callable[[int], Any]]:
    def result(place: int) -> Any:
        run.begun(place)
        with registry.staying():
            return work(place, rows[place], run)

    yield result


def successful(outcomes: Iterable[Outcome[T]], what: str) -> list[Outcome[T]]:
    """Those that did not fail. Raises DataError if there are none: no scan could be ``what``."""
    everything = list(outcomes)
    found = [outcome for outcome in everything if outcome.error is None]
    if not found:
        raise DataError(f"none of {len(everything)} scans could be {what}", fix="The lines above say why.")
    return found


def as_error(error: Exception, where: str) -> UadtkError:
    """Any exception as an error of this scan (or other part of the work)."""
    if isinstance(error, UadtkError):
        return error
    if isinstance(error, MemoryError):
        fix = "Use a machine with more memory, or crop the scan to the head."
        return OutOfMemoryError(f"not enough memory ({error or 'an allocation failed'})", where, fix)
    if isinstance(error, ImportError):
        needs = f"needs '{error.name}'" if error.name else "needs a library"
        return BackendError(f"{needs}, which cannot be imported ({error})", fix="Install it.")
    what = f"failed unexpectedly ({type(error).__name__}: {error})"
    return UadtkError(what, where, "Run this scan alone for the traceback, and report it.")
