"""Names in a folder that holds results: what is done keeps its name when scans of that name come."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.dicom_writer import slices, write
from uadtk.io.cohort import Row, output_names
from uadtk.io.memo import sha256_of
from uadtk.io.results import FAILURE, MANIFEST
from uadtk.pipeline.naming import names_in
from uadtk.pipeline.sources import source_of_row


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    """Three studies of one patient and one of another."""
    for name in "abcd":
        (tmp_path / f"{name}.nii").write_text(name)
    return [Row("P" if name != "d" else "Q", tmp_path / f"{name}.nii") for name in "abcd"]


def hold(folder: Path, name: str, row: Row, end: str = MANIFEST) -> None:
    folder.mkdir(exist_ok=True)
    source = {"absolute": str(row.image), "sha256": sha256_of(row.image)}
    (folder / f"{name}_{end}").write_text(json.dumps({"input": source, "files": {}}))


@pytest.mark.parametrize("end", [MANIFEST, FAILURE])
def test_a_study_that_comes_first_does_not_take_the_name_of_another(rows: list[Row], tmp_path: Path, end: str) -> None:
    out = tmp_path / "out"
    a, b, c, d = rows
    assert names_in(out, rows) == output_names(rows) == ("P", "P_2", "P_3", "Q")
    hold(out, "P", b, end)
    hold(out, "P_2", c, end)
    assert names_in(out, [a, b, c, d]) == ("P_3", "P", "P_2", "Q")
    assert names_in(out, [d, c, b]) == ("Q", "P_2", "P")
    assert names_in(out, [a, b]) == ("P_3", "P")


def test_a_study_that_moved_keeps_its_name(rows: list[Row], tmp_path: Path) -> None:
    a, b, *_ = rows
    hold(tmp_path / "out", "P", b)
    moved = Row("P", b.image.rename(tmp_path / "moved.nii"))
    assert names_in(tmp_path / "out", [a, moved]) == ("P_2", "P")
    assert names_in(tmp_path / "out", [moved], numbered=True) == ("P",)


def test_two_copies_have_two_names(rows: list[Row], tmp_path: Path) -> None:
    a, b, *_ = rows
    b.image.write_bytes(a.image.read_bytes())
    hold(tmp_path / "out", "P", Row("P", a.image.rename(tmp_path / "x.nii")))
    assert names_in(tmp_path / "out", [Row("P", tmp_path / "x.nii"), b]) == ("P", "P_2")
    (tmp_path / "y.nii").write_bytes(b.image.read_bytes())
    (tmp_path / "x.nii").unlink()
    assert names_in(tmp_path / "out", [b, Row("P", tmp_path / "y.nii")]) == ("P", "P_2")


def test_a_single_scan_gets_a_number_only_if_that_is_asked_for(rows: list[Row], tmp_path: Path) -> None:
    a, b, *_ = rows
    hold(tmp_path / "out", "P", a)
    assert names_in(tmp_path / "out", [b]) == ("P",)
    assert names_in(tmp_path / "out", [b], numbered=True) == ("P_2",)
    assert names_in(tmp_path / "out", [a], numbered=True) == ("P",)
    hold(tmp_path / "out", "P_2", b)
    assert names_in(tmp_path / "out", [Row("P", tmp_path / "gone.nii")], numbered=True) == ("P_3",)


def test_numbers_pass_by_what_others_are_called(rows: list[Row], tmp_path: Path) -> None:
    a, b, c, _ = rows
    hold(tmp_path / "out", "P", c)
    other = Row("p_2", c.image)
    assert names_in(tmp_path / "out", [other, a, b]) == ("p_2", "P_3", "P_4")


def test_a_file_of_a_series_that_comes_late_and_first_changes_no_name(tmp_path: Path) -> None:
    """Each of the series is known by the first of its files, whichever that is."""
    for number in (1, 2):
        files = slices(np.ones((4, 4, 3), "u2"), np.eye(4), SeriesInstanceUID=f"1.2.{number}")
        write(tmp_path, files, [f"{number}-{letter}" for letter in "bcd"])
    one, two = Row("P", tmp_path / "1-b"), Row("P", tmp_path / "2-b")
    for name, row in (("P", one), ("P_2", two)):
        with source_of_row(row) as source:
            (tmp_path / "out").mkdir(exist_ok=True)
            (tmp_path / "out" / f"{name}_{MANIFEST}").write_text(json.dumps({"input": source, "files": {}}))
    late = [Row("P", (tmp_path / f"{number}-a")) for number in (1, 2)]
    for row, last in zip(late, (tmp_path / "1-d", tmp_path / "2-d"), strict=True):
        last.rename(row.image)
        (tmp_path / f"{row.image.name}2").write_bytes(row.image.read_bytes())
    assert names_in(tmp_path / "out", late) == ("P", "P_2")
    assert names_in(tmp_path / "out", late[::-1]) == ("P_2", "P")
    assert names_in(tmp_path / "out", late[1:], numbered=True) == ("P_2",)
