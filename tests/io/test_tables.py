"""Tables as people and programs write them: read as they are meant, or refused with line and column."""

from __future__ import annotations

import csv
import io
import os
from contextlib import suppress
from pathlib import Path

import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uadtk.core.errors import DataError
from uadtk.io.cohort import Cohort, Row, read_cohort
from uadtk.io.table import write_cohort


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.nii.gz", "b.nii.gz", "m.nii.gz"):
        (tmp_path / name).touch()
    return tmp_path


def read(folder: Path, content: str | bytes, name: str = "t.tsv") -> Cohort:
    path = folder / name
    path.write_bytes(content.replace("|", "\t").encode() if isinstance(content, str) else content)
    return read_cohort(path)


def refused(folder: Path, content: str, *words: str) -> None:
    with pytest.raises(DataError) as caught:
        read(folder, content)
    for word in words:
        assert word in caught.value.one_line()
    assert "\n" not in caught.value.one_line()


EMPTY = [
    "",
    "NA",
    "na",
    "nan",
    "NaN",
    "None",
    "null",
    "NULL",
    "<NA>",
    "n/a",
    "N/A",
    "#N/A",
    "NaT",
    " ",
    " NA ",
    "\u200b",
]


@pytest.mark.parametrize("word", EMPTY)
def test_an_empty_cell_however_it_is_written(folder: Path, word: str) -> None:
    text = f"subject|image|brain_mask|lesion_mask|group|split\nP1|a.nii.gz|{word}|{word}|{word}|{word}\n"
    assert read(folder, text).rows == (Row("P1", folder / "a.nii.gz"),)


@pytest.mark.parametrize("word", ["-", "--", "\u2013", ".", "?"])
def test_a_cell_that_may_be_empty_or_may_not_is_refused_with_line_and_column(folder: Path, word: str) -> None:
    text = f"subject|image|lesion_mask\nP1|a.nii.gz|m.nii.gz\nP2|b.nii.gz|{word}\n"
    refused(folder, text, "line 3", "'lesion_mask'", f"'{word}'", "empty")


@pytest.mark.parametrize(
    "coding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252"]
)
@pytest.mark.parametrize("delimiter", ["\t", ",", ";", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_codes_delimiters_and_line_ends(folder: Path, coding: str, delimiter: str, end: str) -> None:
    lines = [("subject", "image", "site"), ("Müller", "a.nii.gz", "Görlitz"), ("P2", "b.nii.gz", ""), ("", "", "")]
    text = end.join(delimiter.join(line) for line in lines) + end + end
    rows = (Row("Müller", folder / "a.nii.gz", site="Görlitz"), Row("P2", folder / "b.nii.gz"))
    assert read(folder, text.encode(coding), "t.csv").rows == rows
    if coding == "utf-16-be":
        bom = "\ufeff" + text
        assert read(folder, bom.encode("utf-16-le"), "t.csv").rows == rows
        assert read(folder, bom.encode("utf-16-be"), "t.csv").rows == rows


@pytest.mark.parametrize(
    "name", ["subject", "Subject", "participant_id", "participant", "sub", "Subject ID", "subject.id", "PatientID"]
)
@pytest.mark.parametrize("image", ["image", "Image", " IMAGE ", "flair", "FLAIR", "Image Path"])
def test_names_of_columns(folder: Path, name: str, image: str) -> None:
    text = f"{name}|{image}|Brain Mask|lesion.mask|Group\nP1|a.nii.gz|m.nii.gz|m.nii.gz|ms\n"
    mask = folder / "m.nii.gz"
    assert read(folder, text).rows == (Row("P1", folder / "a.nii.gz", mask, mask, group="ms"),)


def test_the_exact_name_comes_before_another_way_to_say_it(folder: Path) -> None:
    (row,) = read(folder, "participant_id|subject|flair|image\nX|P1|b.nii.gz|a.nii.gz\n")
    assert (row.subject, row.image.name) == ("P1", "a.nii.gz")


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("subject|image|leson_mask", ("'leson_mask'", "nearly 'lesion_mask'")),
        ("subject|image|lesion_masks", ("'lesion_masks'", "nearly 'lesion_mask'")),
        ("subject|image|brian_mask", ("'brian_mask'", "nearly 'brain_mask'")),
        ("subject|image|spilt", ("'spilt'", "nearly 'split'")),
        ("subject|image|groups", ("'groups'", "nearly 'group'")),
        ("subject|flair|scan", ("two columns for 'image'", "'flair'", "'scan'")),
        ("subject|image|Lesion Mask|lesion_mask", ("two columns", "lesion_mask")),
    ],
)
def test_a_column_that_would_change_the_meaning_is_not_ignored(folder: Path, head: str, words: tuple[str, ...]) -> None:
    refused(folder, f"{head}\nP1|a.nii.gz|m.nii.gz|\n", *words)


@pytest.mark.parametrize("name", ["age", "sex", "lesion_volume", "size", "age_group", "Unnamed: 0", "T1w", "notes"])
def test_other_columns_are_no_concern(folder: Path, name: str) -> None:
    cohort = read(folder, f"subject|image|{name}\nP1|a.nii.gz|{'b.nii.gz' if name == 'T1w' else 3.2}\n")
    assert cohort.rows == (Row("P1", folder / "a.nii.gz"),)
    assert not cohort.notes


@pytest.mark.parametrize("name", ["mask", "label", "ground_truth", "seg_manual", "lesion_t1", "WMH"])
def test_a_column_of_files_that_may_be_masks_is_said(folder: Path, name: str) -> None:
    (note,) = read(folder, f"subject|image|{name}\nP1|a.nii.gz|m.nii.gz\n").notes
    assert f"'{name}'" in note
    assert "lesion_mask" in note


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        *(
            (word, "healthy")
            for word in ("Healthy", "HEALTHY", "HC", "hc", "Healthy control", "Normal", "healthy_controls")
        ),
        *((word, word) for word in ("healthy", "control", "controls", "MS", "glioma", "patient", "unhealthy", "0")),
        *((word, "healthy") for word in ("Control", "CONTROLS")),
    ],
)
def test_groups(folder: Path, written: str, read_as: str) -> None:
    cohort = read(folder, f"subject|image|Diagnosis\nP1|a.nii.gz|{written}\n")
    assert cohort.rows[0].group == read_as
    assert cohort.rows[0].presumed_healthy == (read_as in ("healthy", "control", "controls"))
    assert cohort.where(group=written) == cohort


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        *((word, "train") for word in ("Train", "training", "TRAIN")),
        *((word, "validation") for word in ("val", "VALID", "dev", "Validation")),
        *((word, "test") for word in ("Testing", "test")),
        ("fold1", "fold1"),
    ],
)
def test_splits(folder: Path, written: str, read_as: str) -> None:
    cohort = read(folder, f"subject|image|Split\nP1|a.nii.gz|{written}\n")
    assert cohort.rows[0].split == read_as
    assert cohort.split(written) == cohort


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        (("1.0", "2.0"), ("1", "2")),
        (("1", "2.0"), ("1", "2")),
        (("001", "002"), ("001", "002")),
        (("1.1", "1.0"), ("1.1", "1.0")),  # of site 1
        (("P1.0", "2.0"), ("P1.0", "2.0")),
    ],
)
def test_subjects_that_a_program_took_for_numbers(
    folder: Path, written: tuple[str, str], read_as: tuple[str, str]
) -> None:
    cohort = read(folder, "subject|image\n{}|a.nii.gz\n{}|b.nii.gz\n".format(*written))
    assert tuple(row.subject for row in cohort) == read_as


@pytest.mark.parametrize(
    ("cell", "slices"),
    [
        ("12 13", (12, 13)),
        ("12.0", (12,)),
        ("[13, 12]", (12, 13)),
        ("c(12, 13)", (12, 13)),
        ("all", None),
        ("[]", None),
    ],
)
def test_lists_of_numbers(folder: Path, cell: str, slices: tuple[int, ...] | None) -> None:
    (row,) = read(folder, f"subject|image|lesion_free_slices|lesion_labels\nP1|a.nii.gz|{cell}|{cell}\n")
    assert row.lesion_free_slices == slices
    assert row.lesion_labels == slices


@pytest.mark.parametrize(
    "text",
    [
        '"subject" "image" "brain_mask"\n"1" "P1" "a.nii.gz" NA\n"2" "P2" "b.nii.gz" "m.nii.gz"\n',  # write.table
        "subject\timage\tbrain_mask\n1\tP1\ta.nii.gz\tNA\n2\tP2\tb.nii.gz\tm.nii.gz\n",  # sep="\\t", quote=FALSE
        '"","subject","image","brain_mask"\n"1","P1","a.nii.gz",NA\n"2","P2","b.nii.gz","m.nii.gz"\n',  # write.csv
        'sep=;\n"subject";"image";"brain_mask"\n"P1";"a.nii.gz";""\n"P2";"b.nii.gz";"m.nii.gz"\n',  # for Excel
        "subject,image,brain_mask,\nP1,a.nii.gz,,\nP2,b.nii.gz,m.nii.gz,\n",
        "subject,image,brain_mask\nP1,a.nii.gz,,\nP2,b.nii.gz,m.nii.gz,\n",  # a delimiter after each line
    ],
)
def test_what_r_and_excel_write(folder: Path, text: str) -> None:
    rows = (Row("P1", folder / "a.nii.gz"), Row("P2", folder / "b.nii.gz", folder / "m.nii.gz"))
    assert read(folder, text.encode(), "t.csv").rows == rows
    assert read(folder, text.encode(), "t.txt").rows == rows


def test_row_names_that_could_be_subjects_are_refused(folder: Path) -> None:
    refused(folder, "subject|image|brain_mask\n1|1|a.nii.gz|\n2|2|b.nii.gz|\n", "4 cells under 3 columns", "row.names")


@pytest.mark.parametrize("options", [{}, {"index": False}, {"na_rep": "NA"}, {"na_rep": "nan", "sep": ";"}])
def test_what_pandas_writes(folder: Path, options: dict[str, object]) -> None:
    frame = pandas.DataFrame(
        {"subject": [1, None, 3], "image": ["a.nii.gz", None, "b.nii.gz"], "lesion_mask": [None, None, "m.nii.gz"]}
    ).drop(index=1)
    frame.to_csv(folder / "t.csv", **options)
    rows = (Row("1", folder / "a.nii.gz"), Row("3", folder / "b.nii.gz", lesion_mask=folder / "m.nii.gz"))
    assert read_cohort(folder / "t.csv").rows == rows


def test_a_spreadsheet_is_told_how_to_save(folder: Path) -> None:
    (folder / "t.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"is a spreadsheet.*CSV"):
        read_cohort(folder / "t.xlsx")


def test_paths_of_another_system(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "Mu\u0308ller.nii").touch()  # as macOS writes it
    (folder / os.fsdecode(b"b\xfc.nii")).touch()
    text = "subject,image\nP1,deep\\M\u00fcller.nii\nP2,".encode() + b"b\xfc.nii\n"
    first, second = read(folder, text, "t.csv")
    assert first.image.exists()
    assert second.image.exists()


@settings(max_examples=40, deadline=None)
@given(
    names=st.lists(
        st.binary(min_size=1, max_size=40).filter(lambda b: not set(b) & {0, 47} and b.strip() == b),
        min_size=1,
        max_size=4,
        unique=True,
    ),
    site=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1),
)
def test_any_file_name_comes_back_from_a_table(
    tmp_path_factory: pytest.TempPathFactory, names: list[bytes], site: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    rows = []
    for number, name in enumerate(names):
        image = folder / os.fsdecode(name + b".nii")
        image.touch()
        rows.append(Row(f"P{number}", image, site="".join(site.split()) + "x"))
    write_cohort(folder / "cohort.tsv", rows)
    assert [row.image for row in read_cohort(folder / "cohort.tsv")] == [row.image for row in rows]


@settings(max_examples=80, deadline=None)
@given(cells=st.lists(st.lists(st.text(max_size=12), min_size=2, max_size=4), min_size=1, max_size=4), data=st.data())
def test_any_table_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, cells: list[list[str]], data: st.DataObject
) -> None:
    out = io.StringIO()
    csv.writer(out, delimiter=data.draw(st.sampled_from("\t,;"))).writerows(
        [["subject", "image", "lesion_mask"], *cells]
    )
    path = tmp_path_factory.mktemp("any") / "t.tsv"
    path.write_bytes(out.getvalue().encode(data.draw(st.sampled_from(["utf-8", "utf-16"])), errors="replace"))
    with suppress(DataError):  # anything else is a bug
        read_cohort(path)


def test_numbers_of_thousands_of_digits_are_refused(tmp_path: Path) -> None:
    """Python converts none of more than 4,300."""
    for column in ("lesion_labels", "lesion_free_slices"):
        path = tmp_path / "t.tsv"
        path.write_text(f"subject\timage\t{column}\na\ta.nii\t{'9' * 5000}\n")
        with pytest.raises(DataError, match="Write numbers"):
            read_cohort(path)
