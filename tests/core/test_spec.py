"""Specs: a name with options in one word, parsed once and written back as it was."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uadtk.core.errors import UsageError
from uadtk.core.spec import Spec, parse_all

WORDS = st.text(st.characters(exclude_characters=":=,", exclude_categories=["Z", "C"]), min_size=1)
KEYS = st.text(st.characters(exclude_characters=":=,-", exclude_categories=["Z", "C"]), min_size=1)
SPECS = st.builds(Spec, WORDS, st.dictionaries(KEYS, WORDS).map(lambda options: tuple(options.items())))


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("residual", "residual", {}),
        ("median:size=5,unit=mm", "median", {"size": "5", "unit": "mm"}),
        (" a/b : two-words = x y ,", "a/b", {"two_words": "x y"}),
        ("x:equation=a=b", "x", {"equation": "a=b"}),
        ("x:path=a:b", "x", {"path": "a:b"}),
        ("x:empty=", "x", {"empty": ""}),
        ("x:", "x", {}),
    ],
)
def test_a_spec_is_a_name_with_values(text: str, name: str, values: dict[str, str]) -> None:
    spec = Spec.parse(text)
    assert (spec.name, spec.values) == (name, values)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("median:5", "median:5: '5' is not key=value. Write it like median:key=value,key=value."),
        ("median:size=5,mm", "median:size=5,mm: 'mm' is not key=value. Write it like median:key=value,key=value."),
        ("median:size=5,size=7", "median:size=5,size=7: 'size' is given twice. Keep one of them."),
        ("x:min-voxels=5, min_voxels = 5", "x:min-voxels=5, min_voxels = 5: 'min_voxels' is given twice."),
    ],
)
def test_what_is_no_spec_is_refused(text: str, error: str) -> None:
    with pytest.raises(UsageError, match=re.escape(" ".join(error.split()))):
        Spec.parse(text)


@given(SPECS)
def test_what_is_written_is_read_again(spec: Spec) -> None:
    assert Spec.parse(str(spec)) == spec


@given(SPECS)
def test_a_written_spec_is_in_its_shortest_form(spec: Spec) -> None:
    assert str(Spec.parse(str(spec))) == str(spec)


def test_equal_specs_are_one_key_of_a_dictionary() -> None:
    assert {Spec.parse("median:size=5"): 1}[Spec.parse(" median : size = 5 ,")] == 1


def test_an_option_is_set_in_place_or_at_the_end() -> None:
    spec = Spec.parse("median:size=5,unit=mm")
    assert str(spec.having(size=7)) == "median:size=7,unit=mm"
    assert str(spec.having(passes=2)) == "median:size=5,unit=mm,passes=2"
    assert spec.having(size=0.5).values == {"size": "0.5", "unit": "mm"}
    assert spec.having() == spec == Spec.parse("median:size=5,unit=mm")


def test_several_are_parsed_in_their_order() -> None:
    assert parse_all(["erode", "median:size=3"]) == (Spec("erode"), Spec("median", (("size", "3"),)))
    assert parse_all(()) == ()
