"""File names of any bytes: shown on one line, written to any file, and turned into well-formed names."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from uadtk.core.errors import DataError
from uadtk.core.text import ESCAPED, shown
from uadtk.io.cohort import Cohort, Row, content_digest, output_name, output_names, read_cohort, safe_name
from uadtk.io.write import write_json, write_text
from uadtk.study.benchmark import pictures_in

ANY = st.text(st.characters(exclude_categories=()), max_size=300) | st.binary(max_size=300).map(os.fsdecode)


def test_what_is_shown() -> None:
    assert shown(os.fsdecode(b"b\xfc.nii")) == r"b\xfc.nii"
    assert shown("a\tb\nc\x1b[31m") == r"a\tb\nc\x1b[31m"
    assert shown("a\u202egii.nii") == r"a\u202egii.nii"
    assert shown("Jürgen 日本 a'b\"c") == "Jürgen 日本 a'b\"c"


@given(ANY)
def test_anything_is_shown_on_one_line_that_can_be_encoded(text: str) -> None:
    line = shown(text)
    line.encode()
    assert len(line.splitlines()) <= 1
    assert DataError(text, text, text).one_line() == shown(DataError(text, text, text).one_line())
    text.encode("ascii", errors=ESCAPED)


@given(ANY)
def test_any_text_becomes_a_name_in_its_folder(text: str) -> None:
    name = safe_name(text)
    assert Path(name).name == name
    assert not name.startswith((".", "-"))
    assert 0 < len(name.encode()) <= 160
    assert safe_name(name) == name


def test_long_names_stay_different() -> None:
    long = ["ä" * 120 + end for end in "ab"]
    names = [output_name(Path(f"{one}.nii.gz")) for one in long]
    assert len(set(names)) == 2
    assert all(len(f"{name}_desc-pseudohealthy_FLAIR.nii.gz".encode()) <= 255 for name in names)


def test_two_ways_to_write_a_letter_are_one_name() -> None:
    assert safe_name("Mu\u0308ller") == safe_name("M\u00fcller") == "M\u00fcller"
    assert output_names([Row("Mu\u0308ller", Path("a.nii")), Row("M\u00fcller", Path("b.nii"))])[1] == "M\u00fcller_2"


def test_names_of_any_bytes_in_cohorts_and_files(tmp_path: Path) -> None:
    names = [
        b"b\xfc.nii",
        b"tab\there.nii",
        b"line\nbreak.nii",
        b"quote\"'.nii",
        "a\u202eb.nii".encode(),
        b"x" * 251 + b".nii",
    ]
    for name in names:
        (tmp_path / os.fsdecode(name)).touch()
    cohort = read_cohort(tmp_path)
    assert len(cohort) == len(names)
    assert len(set(output_names(cohort))) == len(names)
    assert cohort.digest() != content_digest(cohort)
    write_text(tmp_path / "t.txt", "\n".join(str(row.image) for row in cohort))
    assert rb"b\xfc.nii" in (tmp_path / "t.txt").read_bytes()
    write_json(tmp_path / "t.json", [row.image for row in cohort])
    assert json.loads((tmp_path / "t.json").read_text()) == [str(row.image) for row in cohort]


def test_a_collection_stays_in_the_folder_of_pictures(tmp_path: Path) -> None:
    from uadtk.study import benchmark

    names = ["../../../escaped", "a/b", "a-b", "..", "", "lgg"]
    paths = [benchmark._picture(tmp_path, name) for name in names]
    assert {path.parent for path in paths} == {tmp_path / "pictures"}
    assert len(set(paths)) == len(names)
    assert paths[-2:] == [tmp_path / "pictures" / "all.png", tmp_path / "pictures" / "lgg.png"]
    assert pictures_in(tmp_path, names) == {}
    assert Cohort((Row("a", Path("a")),), "x")


def test_many_scans_of_one_name_are_named_in_no_time() -> None:
    rows = [Row("P", Path("flair.nii.gz"))] * 20_000
    start = time.process_time()
    names = output_names(rows)
    assert time.process_time() - start < 5  # counting up from 1 for each took minutes
    assert (names[0], names[1], names[-1], len(set(names))) == ("P", "P_2", "P_20000", 20_000)
