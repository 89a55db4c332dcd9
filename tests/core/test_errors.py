"""Errors: one line each, an exit code each, and the class tree shown in the docstring."""

import pickle
import re
from pathlib import Path

import pytest

from uadtk.core import errors
from uadtk.core.errors import BackendError, DataError, GateError, StorageError, UadtkError, did_you_mean


def test_the_tree_in_the_docstring_is_the_truth():
    drawn = dict(re.findall(r"(\w+Error) +(\d)", errors.__doc__))
    classes = {c.__name__: str(c.exit_code) for c in (UadtkError, *UadtkError.__subclasses__())}
    assert drawn == classes
    assert f"interrupted         {errors.INTERRUPTED}" in errors.__doc__


def test_every_error_has_its_own_exit_code_but_a_full_disk_which_is_any_failure():
    codes = {c: c.exit_code for c in (UadtkError, *UadtkError.__subclasses__())}
    assert codes.pop(StorageError) == codes[UadtkError]
    assert sorted(codes.values()) == [1, 2, 3, 4, 5, 6, 7]


def test_what_the_next_scan_would_meet_too_stops_a_run():
    kinds = (UadtkError, *UadtkError.__subclasses__())
    assert {kind for kind in kinds if kind.stops_run} == {BackendError, StorageError}


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        (("is empty",), "is empty"),
        (("is empty", "a.nii"), "a.nii: is empty"),
        (("is empty", "a.nii", "Copy it again."), "a.nii: is empty. Copy it again."),
        (("is empty", "", "Copy it again."), "is empty. Copy it again."),
        (("is\n  empty", "a\nb.nii", "Copy\tit."), "a\\nb.nii: is empty. Copy it."),
    ],
)
def test_what_where_and_what_to_do_on_one_line(parts, line):
    error = DataError(*parts)
    assert error.one_line() == str(error) == line


def test_an_error_that_passes_by_gets_a_place_unless_it_has_one_and_keeps_all_else():
    error = GateError("is a T1", "", "Name the FLAIR.")
    error.light = "amber"
    for folder in ("first", "second"):
        error.locate(Path(folder, "a.nii"))
    assert error.one_line() == str(error) == "first/a.nii: is a T1. Name the FLAIR."
    assert error.light == "amber"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    ("wrong", "known", "text"),
    [
        ("scalespce", ["histeq", "scalespace"], "Did you mean 'scalespace'?"),
        ("vae", ["histeq", "scalespace"], "Known: histeq, scalespace."),
        ("vae", [], "Known: none."),
        ("b", iter(["c", "a"]), "Known: a, c."),
    ],
)
def test_did_you_mean(wrong, known, text):
    assert did_you_mean(wrong, known) == text
