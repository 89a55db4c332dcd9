from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from uadtk.core import machine
from uadtk.core.errors import DataError, OutOfMemoryError, UsageError
from uadtk.core.run import Run
from uadtk.io.cohort import (
    Cohort,
    Row,
    content_digest,
    output_name,
    output_names,
    read_cohort,
    read_lesion,
    read_row,
    refuse_copies,
)
from uadtk.io.read import located, read_scan


def image(path: Path, shape: tuple[int, ...] = (2, 3, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.arange(np.prod(shape), dtype=np.uint8).reshape(shape), np.eye(4)), path)
    return path


def table(folder: Path, text: str, name: str = "cohort.tsv", encoding: str = "utf-8") -> Path:
    (folder / name).write_text(text.replace("|", "\t"), encoding=encoding)
    return folder / name


@pytest.fixture
def scans(tmp_path):
    for name in "abc":
        image(tmp_path / f"{name}.nii.gz")
    return tmp_path


def refused(source) -> DataError:
    with pytest.raises(DataError) as caught:
        read_cohort(source)
    assert caught.value.where
    assert caught.value.fix
    return caught.value


def test_table(scans):
    text = (
        "subject|age|image|brain_mask|lesion_mask|group|site|split|collection|lesion_free_slices\n"
        "P1|31|a.nii.gz|m/a.nii.gz|l/a.nii.gz|ms|LJ|train|one|5 3, 4\n"
        "\n"
        f"P2||{scans / 'b.nii.gz'}|||||||\n"
        "P3|n/a|c.nii.gz|n/a"
    )
    cohort = read_cohort(table(scans, text))
    first, second, third = cohort
    assert first == Row(
        "P1",
        scans / "a.nii.gz",
        scans / "m/a.nii.gz",
        scans / "l/a.nii.gz",
        group="ms",
        site="LJ",
        split="train",
        collection="one",
        lesion_free_slices=(3, 4, 5),
    )
    assert second == Row("P2", scans / "b.nii.gz")
    assert third == Row("P3", scans / "c.nii.gz")
    assert len(cohort) == 3
    assert cohort.source == str(scans / "cohort.tsv")


def test_backslashes_of_windows_are_read_as_slashes(scans):
    image(scans / "sub" / "d.nii.gz")
    (row,) = read_cohort(table(scans, "subject|image|brain_mask\nP1|sub\\d.nii.gz|..\\m\\d.nii.gz"))
    assert row == Row("P1", scans / "sub/d.nii.gz", scans / "../m/d.nii.gz")


def test_a_drive_of_windows_is_a_missing_file_on_other_systems(scans):
    path = table(scans, "subject|image\nP1|Q:\\data\\a.nii.gz\nP2|a.nii.gz")
    first, second = read_cohort(path)
    assert not first.image.exists()
    assert first.image.as_posix().endswith("Q:/data/a.nii.gz")
    assert second.image.exists()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tables_that_other_programs_write(scans, delimiter, encoding, end):
    lines = [("subject", "image", "site"), ("Müller", '"a.nii.gz"', "X")]
    text = end.join(delimiter.join(line) for line in lines) + end
    (scans / "c.CSV").write_bytes(text.encode(encoding))
    assert read_cohort(scans / "c.CSV").rows == (Row("Müller", scans / "a.nii.gz", site="X"),)


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ("subjects|image\nP|a.nii.gz", "no column 'subject'", "Did you mean 'subjects'?"),
        ("subject|scan_image\nP|a.nii.gz", "no column 'image'", "Did you mean 'scan_image'?"),
        ("", "no column 'subject'", "Known: none."),
        ("subject|image|split|split\nP|a.nii.gz|x|y", "two columns 'split'", "Remove"),
        ("subject|image\n", "no scans", "line"),
        ('subject|image\nP|"a.nii.gz\n', "is no table of text", "UTF-8"),
    ],
)
def test_tables_that_make_no_sense(scans, text, what, fix):
    error = refused(table(scans, text))
    assert what in error.what
    assert fix in error.fix
    assert error.where == str(scans / "cohort.tsv")


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("P2|", "no image"),
        ("|a.nii.gz", "no subject"),
        ("n/a|a.nii.gz", "no subject"),
        ("P2|a.nii.gz|1 two 3", "lesion_free_slices is '1 two 3'"),
        ("P2|a.nii.gz|-1", "lesion_free_slices is '-1'"),
        ("P2|a.nii.gz|1|2", "4 cells under 3 columns"),
    ],
)
def test_lines_that_make_no_sense(scans, line, what):
    error = refused(table(scans, f"subject|image|lesion_free_slices\nP1|a.nii.gz\n{line}\n"))
    assert what in error.what
    assert error.where == f"{scans / 'cohort.tsv'}, line 3"


def test_no_text_and_no_file(tmp_path):
    (tmp_path / "a.tsv").write_bytes(b"subject\timage\n\xff\xfe\x00")
    assert "is no table of text" in refused(tmp_path / "a.tsv").what
    assert "cannot be read (No such file" in refused(tmp_path / "b.tsv").what
    assert refused(tmp_path / "b.nii.gz").what == "no such file"
    assert refused([]).what == "no scans in it"


def test_a_missing_image_is_found_at_use_unless_all_are(scans):
    text = "subject|image\nP1|a.nii.gz\nP2|gone.nii.gz\n"
    assert [row.image.exists() for row in read_cohort(table(scans, text))] == [True, False]
    (scans / "a.nii.gz").unlink()
    error = refused(table(scans, text))
    assert error.what == f"none of the 2 images exists, such as {scans / 'a.nii.gz'}"


def test_splits_are_by_subject(scans):
    text = "subject|image|split\nP1|a.nii.gz|train\nP1|b.nii.gz|{}\nP2|c.nii.gz|test\n"
    error = refused(table(scans, text.format("test")))
    assert error.what == "subject 'P1' is in two splits, 'train' and 'test'"
    for same in ("train", ""):
        assert len(read_cohort(table(scans, text.format(same)))) == 3


def test_split_and_where(scans):
    text = "subject|image|split|site\nP1|a.nii.gz|train|X\nP2|b.nii.gz|test|X\nP3|c.nii.gz|test|Y\n"
    cohort = read_cohort(table(scans, text))
    assert [row.subject for row in cohort.split("test")] == ["P2", "P3"]
    assert [row.subject for row in cohort.where(split="test", site="Y")] == ["P3"]
    assert cohort.where() == cohort
    with pytest.raises(DataError, match=r"no scans in split 'tset'. Did you mean 'test'\?"):
        cohort.split("tset")
    with pytest.raises(DataError, match="no scans with split 'train', site 'Y'"):
        cohort.where(split="train", site="Y")
    with pytest.raises(UsageError, match=r"no column 'sites' in a cohort. Did you mean 'site'\?"):
        cohort.where(sites="Y")
    with pytest.raises(DataError, match="Add a column 'split'"):
        read_cohort(scans / "a.nii.gz").split("test")


def test_digest(scans):
    def digest(*rows: Row) -> str:
        return Cohort(rows, "here").digest()

    a, b = Row("P1", scans / "a.nii.gz", split="train"), Row("P2", scans / "b.nii.gz")
    first = digest(a, b)
    assert first == digest(b, a)
    assert len(first) == 64
    moved = scans / "moved"
    moved.mkdir()
    for name in "ab":
        shutil.copy(scans / f"{name}.nii.gz", moved)
    assert first == digest(Row("P1", moved / "a.nii.gz", split="train"), Row("P2", moved / "b.nii.gz"))
    changed = [
        digest(a),
        digest(Row("P9", a.image, split="train"), b),
        digest(Row("P1", a.image, split="test"), b),
        digest(Row("P1", a.image, split="train", lesion_free_slices=(1,)), b),
        digest(Row("P1", a.image, split="train", brain_mask=scans / "c.nii.gz"), b),
        digest(Row("P1", a.image, split="train", lesion_mask=scans / "c.nii.gz"), b),
        digest(Row("P1", a.image, split="train", ignore_mask=scans / "c.nii.gz"), b),
        digest(Row("P1", a.image, split="train", prior_mask=scans / "c.nii.gz"), b),
        digest(Row("P1", a.image, split="train", label_source="teacher"), b),
        digest(Row("P1", scans / "gone.nii.gz", split="train"), b),
    ]
    with (scans / "b.nii.gz").open("ab") as file:
        file.write(b"more")
    assert len({first, *changed, digest(a, b)}) == len(changed) + 2


def test_columns_that_came_later_leave_older_digests_as_they_were(scans):
    line = f"P1\ttrain\t\ta.nii.gz {(scans / 'a.nii.gz').stat().st_size}\t\t"
    digest = Cohort((Row("P1", scans / "a.nii.gz", split="train", group="ms"),), "here").digest()
    assert digest == hashlib.sha256(line.encode()).hexdigest()


def test_labels_of_something_else(scans):
    text = "subject|image|lesion_mask|ignore_mask|prior_mask|label_source\nP1|a.nii.gz|b.nii.gz|c.nii.gz||teacher\n"
    (row,) = read_cohort(table(scans, text))
    assert (row.lesion_mask, row.ignore_mask) == (scans / "b.nii.gz", scans / "c.nii.gz")
    assert (row.prior_mask, row.label_source) == (None, "teacher")


def test_one_file_and_several(scans):
    assert read_cohort(scans / "a.nii.gz").rows == (Row("a", scans / "a.nii.gz"),)
    assert read_cohort(str(scans / "a.nii.gz")) == read_cohort(scans / "a.nii.gz")
    files = [scans / "b.nii.gz", scans / "a.nii.gz", scans / "gone.nii.gz"]
    cohort = read_cohort(files)
    assert [row.image for row in cohort] == files
    assert cohort.source == "3 sources"


def test_files_of_the_same_name_are_different_subjects(tmp_path):
    files = [image(tmp_path / who / "flair.nii.gz") for who in ("P1", "P2")]
    cohort = read_cohort(files)
    assert [row.subject for row in cohort] == ["P1_flair", "P2_flair"]
    assert output_names(cohort) == ("P1_flair", "P2_flair")


def test_table_and_files_together(scans):
    path = table(scans, "subject|image\nP1|a.nii.gz\n")
    assert [row.subject for row in read_cohort([path, scans / "b.nii.gz"])] == ["P1", "b"]


def test_folder(scans):
    brain = image(scans / "a_desc-brain_mask.nii.gz")
    lesion = image(scans / "b_label-lesion_mask.nii")
    wrong = image(scans / "c_desc-brain_mask.nii.gz", (2, 3, 5))  # not on the grid of c: that row fails
    for name in ("brainmask.nii.gz", "x_dseg.nii.gz", "._a.nii.gz", "d.txt"):
        (scans / name).touch()
    assert read_cohort(scans).rows == (
        Row("a", scans / "a.nii.gz", brain_mask=brain),
        Row("b", scans / "b.nii.gz", lesion_mask=lesion),
        Row("c", scans / "c.nii.gz", brain_mask=wrong),
    )


def test_folder_without_images(tmp_path):
    (tmp_path / "a_mask.nii.gz").touch()
    assert "no NIfTI images" in refused(tmp_path).what


def test_bids(tmp_path):
    anat, ses = tmp_path / "sub-01/anat", tmp_path / "sub-02/ses-1/anat"
    derived = tmp_path / "derivatives/pipe"
    one, two, three = (
        image(anat / "sub-01_FLAIR.nii.gz"),
        image(ses / "sub-02_ses-1_FLAIR.nii.gz"),
        image(ses / "sub-02_ses-1_run-2_FLAIR.nii"),
    )
    image(anat / "sub-01_T1w.nii.gz")
    brain = image(derived / "sub-01/anat/sub-01_space-orig_desc-brain_mask.nii.gz")
    image(tmp_path / "derivatives/fmriprep/sub-01/anat/sub-01_desc-brain_mask.nii.gz", (9, 9, 9))  # the T1w's grid
    image(tmp_path / "derivatives/uadtk-run1/sub-01/anat/sub-01_label-lesion_mask.nii.gz")  # our result, no reference
    lesion = image(derived / "sub-02/ses-1/anat/sub-02_ses-1_run-2_label-lesion_mask.nii.gz")
    cohort = read_cohort(tmp_path)
    assert cohort.rows == (
        Row("sub-01", one, brain_mask=brain),
        Row("sub-02", two),
        Row("sub-02", three, lesion_mask=lesion),
    )
    assert output_names(cohort) == ("sub-01", "sub-02_ses-1", "sub-02_ses-1_run-2")


def test_bids_with_two_masks(tmp_path):
    image(tmp_path / "sub-01/anat/sub-01_FLAIR.nii.gz")
    for pipeline in ("a", "b"):
        image(tmp_path / f"derivatives/{pipeline}/sub-01/anat/sub-01_desc-brain_mask.nii.gz")
    error = refused(tmp_path)
    assert "two masks for this image" in error.what
    assert "cohort table" in error.fix


def test_bids_without_flair(tmp_path):
    image(tmp_path / "sub-01/anat/sub-01_T1w.nii.gz")
    assert "no FLAIR images" in refused(tmp_path).what


def test_an_image_that_cannot_be_read_does_not_stop_the_others(scans):
    (scans / "a.nii.gz").write_bytes(b"")
    image(scans / "a_desc-brain_mask.nii.gz")
    assert [row.brain_mask for row in read_cohort(scans)] == [None, None, None]


@pytest.mark.parametrize(
    ("item", "name"),
    [
        ("sub-01_ses-1_FLAIR.nii.gz", "sub-01_ses-1"),
        ("x/sub-01_FLAIR.nii", "sub-01"),
        ("sub-01_ses-1_acq-3d_run-2_FLAIR.nii.gz", "sub-01_ses-1_acq-3d_run-2"),
        ("scan.nii.gz", "scan"),
        ("scan.v2.nii.gz", "scan.v2"),
        ("my_T1w.nii.gz", "my_T1w"),
        ("scan.hdr", "scan"),
        ("scan.img.gz", "scan"),
        ("Ann B (2).nii", "Ann-B-2-"),
        (".nii.gz", "scan"),
        (Row("P1", Path("lgg/P1/flair.nii.gz")), "P1"),
        (Row("P1", Path("P1/ses-02/flair.nii.gz")), "P1_ses-02"),
        (Row("P1", Path("x/P1_ses-02_flair.nii.gz")), "P1_ses-02"),
        (Row("sub-1", Path("sub-1_ses-a_run-1_FLAIR.nii.gz")), "sub-1_ses-a_run-1"),
        (Row("sub-1", Path("sub-11_FLAIR.nii.gz")), "sub-1"),
        (Row("../../etc/passwd", Path("a.nii")), "etc-passwd"),
        (Row("...", Path("a.nii")), "scan"),
        (Row("Jürgen", Path("a.nii")), "Jürgen"),
    ],
)
def test_output_name(item, name):
    assert output_name(item) == name


def test_output_names_are_unique_on_every_file_system():
    rows = [Row(subject, Path("a.nii")) for subject in ("P", "P", "p", "P_2", "Q")]
    assert output_names(rows) == ("P", "P_2", "p_3", "P_2_2", "Q")


def test_the_real_table():
    folder = Path(os.environ.get("UADTK_TEST_DATA", Path(__file__).parents[3] / "shared/data"))
    if not (folder / "cohort.tsv").exists():
        pytest.skip(f"no real cohort at {folder}; set UADTK_TEST_DATA")
    cohort = read_cohort(folder / "cohort.tsv")
    assert {row.split for row in cohort} == {"train", "validation", "test"}
    lgg = cohort.where(collection="lgg")
    assert [len(lgg.split(name)) for name in ("train", "validation", "test")] == [60, 5, 15]
    assert all(row.image.exists() and row.lesion_mask and row.brain_mask for row in lgg)
    assert lgg.rows[0].lesion_free_slices == (12, 13, 14, 15)
    assert len(set(output_names(cohort))) == len(cohort)


@pytest.mark.parametrize("column", ["image", "brain_mask", "lesion_mask"])
def test_a_name_that_no_file_can_have_costs_its_row(column, tmp_path):
    nib.save(nib.Nifti1Image(np.arange(64, dtype="u1").reshape(4, 4, 4), np.eye(4)), tmp_path / "a.nii")
    named = {"image": "a.nii", "brain_mask": "", "lesion_mask": "", column: "n" * 300 + ".nii"}
    lines = ["subject\timage\tbrain_mask\tlesion_mask", "\t".join(["long", *named.values()]), "b\ta.nii\t\t"]
    (tmp_path / "c.tsv").write_text("\n".join(lines) + "\n")
    cohort = read_cohort(tmp_path / "c.tsv")
    row, scan = cohort.rows[0], read_scan(tmp_path / "a.nii")
    refuse_copies(cohort)
    assert cohort.digest()
    assert content_digest(cohort)
    with pytest.raises(DataError, match=r"n\.nii: cannot be read \(File name too long\)"), located(row.image):
        read_lesion(row, scan) if column == "lesion_mask" else read_row(row, Run())


def test_a_scan_that_could_be_read_and_not_processed_is_refused_before_it_is_read(tmp_path, monkeypatch):
    image = nib.Nifti1Image(np.zeros((1, 1, 1), "i2"), np.eye(4))
    image.header.set_data_shape((512, 512, 2000))
    (tmp_path / "a.nii").write_bytes(image.header.binaryblock + bytes(4))
    monkeypatch.setattr(machine, "free_memory", lambda: 10 * 10**9)
    monkeypatch.setattr("uadtk.io.cohort.read_scan", None)
    with pytest.raises(OutOfMemoryError, match=r"processing it takes about 21\.0 GB of memory, 10\.0 GB are free"):
        read_row(Row("a", tmp_path / "a.nii"), Run())
