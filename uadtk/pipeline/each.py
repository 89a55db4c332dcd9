"""The one loop over the scans of a cohort, and the one policy for a scan that fails.

* An error costs one scan and one line, expected (``UadtkError``) or not; the next scan is tried.
* An error that says nothing about the scan stops the run: a missing library or device, a full disk.
* If there is only one scan, its error is raised unchanged, with the traceback if it was unexpected.

Nothing that failed is stored, so the same command tries it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from uadtk.core.errors import BackendError, DataError, UadtkError
from uadtk.core.run import Run
from uadtk.io.cohort import Row
from uadtk.io.read import located

T = TypeVar("T")


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


def each(
    rows: Sequence[Row], work: Callable[[Row], T], run: Run, doing: str, alone: bool | None = None
) -> Iterator[Outcome[T]]:
    """``work(row)`` for every row in order, with a progress bar labelled ``doing``; a failure is reported on one line.

    Errors without a location get the path of the scan. ``alone``: raise the error of a scan instead of
    reporting it; by default, if there is only one row.

    Raises
    ------
    UadtkError
        One that stops the run (``stops_run``), or that of the only row.
    """
    alone = len(rows) == 1 if alone is None else alone
    for place, row in enumerate(run.track(rows, doing)):
        try:
            with located(row.image):
                value = work(row)
        except Exception as error:
            if alone:
                raise
            failure = as_error(error, str(row.image))
            if failure is error and failure.stops_run:
                raise
            if failure.stops_run:
                raise failure from error
            run.say(f"{row.subject}: failed: {failure.one_line()}")
            yield Outcome(place, row, error=failure)
        else:
            yield Outcome(place, row, value)


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
    if isinstance(error, ImportError):
        needs = f"needs '{error.name}'" if error.name else "needs a library"
        return BackendError(f"{needs}, which cannot be imported ({error})", fix="Install it.")
    what = f"failed unexpectedly ({type(error).__name__}: {error})"
    return UadtkError(what, where, "Run this scan alone for the traceback, and report it.")
