"""The one loop over scans: a scan that fails costs one line, what is not about a scan stops the run."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from uadtk.core.errors import (
    BackendError,
    CheckpointError,
    DataError,
    PluginError,
    StorageError,
    UadtkError,
    UsageError,
)
from uadtk.core.run import Run
from uadtk.io.cohort import Row
from uadtk.pipeline.each import Outcome, Work, as_error, each, successful

ROWS = [Row(name, Path(f"{name}.nii.gz")) for name in "abc"]


def fails_on(name: str, error: BaseException) -> Work[str]:
    """Work that gives the subject in capitals, but raises ``error`` for one of them."""

    def work(_place: int, row: Row, _run: Run) -> str:
        if row.subject == name:
            raise error
        return row.subject.upper()

    return work


def walk(work: Work[str], rows: list[Row] = ROWS, **choices: Any) -> tuple[list[Outcome[str]], list[str]]:
    """The outcomes, and the lines that were said."""
    said: list[str] = []
    return list(each(rows, work, Run(say=said.append), "working", **choices)), said


def test_every_row_gives_its_value_in_its_place() -> None:
    outcomes, said = walk(fails_on("nobody", ValueError()))
    assert outcomes == [Outcome(place, row, row.subject.upper()) for place, row in enumerate(ROWS)]
    assert [outcome.result for outcome in outcomes] == ["A", "B", "C"]
    assert said == []


@pytest.mark.parametrize("kind", [UadtkError, DataError, UsageError, CheckpointError])
@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_an_expected_error_costs_one_scan_and_one_line(kind: type[UadtkError], name: str) -> None:
    outcomes, said = walk(fails_on(name, kind("is cut short", "elsewhere.nii", "Copy it again.")))
    assert [outcome.place for outcome in outcomes] == [0, 1, 2]
    assert [outcome.row for outcome in outcomes] == ROWS
    assert [outcome.row.subject for outcome in outcomes if outcome.error is not None] == [name]
    assert [outcome.value for outcome in outcomes] == [None if one == name else one.upper() for one in "abc"]
    assert said == [f"{name}: failed: elsewhere.nii: is cut short. Copy it again."]


def test_a_plugin_that_exits_costs_one_scan_and_never_ends_the_run() -> None:
    outcomes, said = walk(fails_on("b", SystemExit(0)))
    assert [type(outcome.error) for outcome in outcomes] == [type(None), PluginError, type(None)]
    assert said[0].startswith("b: failed: b.nii.gz: a plugin called sys.exit(0)")
    with pytest.raises(PluginError):
        walk(fails_on("a", SystemExit(0)), ROWS[:1])


def test_an_unexpected_error_costs_one_scan_too_and_its_line_names_it() -> None:
    outcomes, said = walk(fails_on("b", ZeroDivisionError("by\nzero")))
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
    (line,) = said
    assert line.startswith("b: failed: b.nii.gz: failed unexpectedly (ZeroDivisionError: by zero)")
    assert "\n" not in line
    with pytest.raises(UadtkError, match="ZeroDivisionError"):
        outcomes[1].result  # noqa: B018


def test_an_error_without_a_place_gets_the_path_of_the_scan() -> None:
    outcomes, said = walk(fails_on("b", DataError("is cut short", fix="Copy it again.")))
    assert isinstance(outcomes[1].error, DataError)
    assert outcomes[1].error.where == "b.nii.gz"
    assert said == ["b: failed: b.nii.gz: is cut short. Copy it again."]


def test_a_file_that_the_system_does_not_give_is_a_fault_of_the_scan() -> None:
    outcomes, said = walk(fails_on("b", OSError(errno.EIO, "Input/output error")))
    assert isinstance(outcomes[1].error, DataError)
    assert said == ["b: failed: b.nii.gz: cannot be read (Input/output error). Check path and permissions."]


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (BackendError("needs deepbet"), BackendError, "needs deepbet"),
        (StorageError("cannot be written", "/out"), StorageError, "/out: cannot be written"),
        (ModuleNotFoundError("No module named 'itk'", name="itk"), BackendError, "needs 'itk', which cannot be impo"),
        (ImportError("cannot import name 'x' from 'y'", name="y"), BackendError, "cannot import name 'x' from 'y'"),
    ],
)
def test_what_is_not_about_the_scan_stops_the_run(error: Exception, kind: type[UadtkError], words: str) -> None:
    begun: list[str] = []

    def work(_place: int, row: Row, _run: Run) -> str:
        begun.append(row.subject)
        return fails_on("b", error)(_place, row, _run)

    said: list[str] = []
    outcomes = each(ROWS, work, Run(say=said.append), "working")
    assert next(outcomes).result == "A"
    with pytest.raises(kind, match=words):
        next(outcomes)
    assert (begun, said) == (["a", "b"], [])


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit()])
def test_an_interruption_is_no_failure_of_a_scan(error: BaseException) -> None:
    said: list[str] = []
    with pytest.raises(type(error)):
        list(each(ROWS, fails_on("b", error), Run(say=said.append), "working"))
    assert said == []


@pytest.mark.parametrize(
    "error", [DataError("is cut short", "a.nii.gz"), BackendError("needs deepbet", "deepbet"), ZeroDivisionError()]
)
def test_the_error_of_a_scan_on_its_own_is_raised_as_it_is(error: Exception) -> None:
    said: list[str] = []
    with pytest.raises(type(error)) as caught:
        list(each(ROWS[:1], fails_on("a", error), Run(say=said.append), "working"))
    assert (caught.value, said) == (error, [])


def test_it_can_be_said_that_one_row_is_not_on_its_own_or_that_many_are() -> None:
    outcomes, said = walk(fails_on("a", DataError("is cut short")), ROWS[:1], alone=False)
    assert (outcomes[0].error is None, len(said)) == (False, 1)
    with pytest.raises(ZeroDivisionError):
        walk(fails_on("b", ZeroDivisionError()), alone=True)


def test_a_value_is_finished_in_order_and_a_failure_of_that_counts_too() -> None:
    def finish(place: int, row: Row, value: str) -> str:
        if place == 1:
            raise DataError("is the same scan as a")
        return f"{place}{value}"

    outcomes, said = walk(fails_on("nobody", ValueError()), finish=finish)
    assert [outcome.value for outcome in outcomes] == ["0A", None, "2C"]
    assert said == ["b: failed: b.nii.gz: is the same scan as a"]


def test_no_rows_no_outcomes() -> None:
    assert walk(fails_on("a", ValueError()), []) == ([], [])


def test_a_scan_is_begun_when_its_outcome_is_asked_for() -> None:
    """So that memory holds one scan, and a bar of progress tells the truth."""
    begun: list[str] = []
    shown: list[str] = []

    def track(items: Iterable[Any], what: str) -> Iterator[Any]:
        shown.append(what)
        yield from items

    def work(_place: int, row: Row, _run: Run) -> str:
        begun.append(row.subject)
        return ""

    outcomes = each(ROWS, work, Run(track=track), "working")
    assert (begun, shown) == ([], [])
    next(outcomes)
    assert (begun, shown) == (["a"], ["working"])


def test_those_that_succeeded_are_taken_and_there_must_be_one() -> None:
    outcomes, _ = walk(fails_on("b", ValueError()))
    assert [outcome.result for outcome in successful(outcomes, "scored")] == ["A", "C"]
    with pytest.raises(DataError, match=r"none of 2 scans could be scored\. The lines above say why"):
        successful([outcomes[1], outcomes[1]], "scored")


def test_any_exception_is_an_error_for_people() -> None:
    known = DataError("is cut short")
    assert as_error(known, "x") is known
    missing = as_error(ModuleNotFoundError("No module named 'itk'", name="itk"), "x")
    assert (type(missing), missing.stops_run) == (BackendError, True)
    strange = as_error(KeyError("side"), "x.nii")
    assert (type(strange), strange.where, strange.stops_run) == (UadtkError, "x.nii", False)
    assert "KeyError: 'side'" in strange.what
