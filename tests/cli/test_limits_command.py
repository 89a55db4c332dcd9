"""``uadtk limits``: what it prints and writes, and one clear line for bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import uadtk
from tests.commands import Done, call
from uadtk.cli.limits import numbers
from uadtk.core.errors import UsageError

FEW = ["--sizes-mm", "12,30", "--contrasts", "100", "--repeats", "1", "--threads", "1"]


@pytest.fixture(scope="module")
def healthy(small_cohort: Path) -> list[object]:
    return [small_cohort, "--split", "train"]


@pytest.fixture(scope="module")
def done(histeq: Path, healthy: list[object], tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, Path]:
    out = tmp_path_factory.mktemp("limits") / "out"
    return call("limits", histeq, *healthy, "-o", out, *FEW), out


def test_it_prints_what_would_be_missed_and_where_the_page_is(done: tuple[Done, Path]) -> None:
    made, out = done
    assert made.code == 0
    lines = made.out.splitlines()
    assert lines[0].split() == ["contrast", "12", "mm", "30", "mm"]
    assert lines[1].startswith("+100 % ")
    assert lines[2].startswith("Lesions 100 % brighter than the tissue around them are ")
    assert lines[3].startswith("By place, over all sizes and contrasts, it misses ")
    assert lines[-1] == f"report  {out / 'limits.html'}"
    assert [line[:7] for line in made.err.splitlines() if line[:2] in ("1/", "2/", "3/")] == [
        "1/3 s0:",
        "2/3 s1:",
        "3/3 s2:",
    ]
    assert "min left" in made.err


def test_the_json_names_all_that_is_needed_to_repeat_it(done: tuple[Done, Path], histeq: Path) -> None:
    record = json.loads((done[1] / "limits.json").read_text())
    assert record["checkpoint"]["digest"] == uadtk.open(histeq).checkpoint.digest
    assert record["question"] == {"sizes_mm": [12.0, 30.0], "contrasts": [1.0], "repeats": 1}
    assert record["point"]["name"] == "p98"
    assert [scan["subject"] for scan in record["scans"]] == ["s0", "s1", "s2"]
    assert len(record["sensitivity"]) == 4 * 2
    assert record["failed"] == 0


def test_outputs_are_replaced_only_if_asked(done: tuple[Done, Path], histeq: Path, healthy: list[object]) -> None:
    out = done[1]
    call("limits", histeq, *healthy, "-o", out, *FEW).refused(
        2, str(out / "limits.html"), "output exists", "--overwrite"
    )
    again = call("limits", histeq, *healthy, "-o", out, *FEW, "--overwrite")
    assert (again.code, again.out) == (0, done[0].out)
    assert again.err.count("measured before") == 3


def test_the_python_interface_does_the_same(
    done: tuple[Done, Path], histeq: Path, healthy: list[object], tmp_path: Path
) -> None:
    model = uadtk.open(histeq, threads=1)
    found = model.limits(str(healthy[0]), tmp_path / "out", sizes_mm=[12, 30], contrasts=[1], repeats=1, split="train")
    assert found.as_text() == "\n".join(done[0].out.splitlines()[:2])
    assert (tmp_path / "out" / "limits.tsv").read_bytes() == (done[1] / "limits.tsv").read_bytes()


def test_one_scan_says_what_its_intervals_are(histeq: Path, small_cohort: Path, tmp_path: Path) -> None:
    scan = small_cohort.parent / "s0.nii.gz"
    done = call("limits", histeq, scan, "-o", tmp_path, *FEW)
    assert done.code == 0
    assert done.err.splitlines()[0] == "one subject: the intervals hold for this subject, not for others"


def test_a_scan_that_fails_makes_the_exit_code_1(histeq: Path, small_cohort: Path, tmp_path: Path) -> None:
    table = tmp_path / "t.tsv"
    table.write_text(f"subject\timage\ns0\t{small_cohort.parent / 's0.nii.gz'}\ngone\tgone.nii.gz\n")
    done = call("limits", histeq, table, "-o", tmp_path / "out", *FEW)
    assert done.code == 1
    assert "gone: failed: " in done.err
    assert (tmp_path / "out" / "limits.html").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["histeq", "{cohort}"], 2, ["histeq", "has no operating point", "uadtk threshold"]),
        (["{model}", "{cohort}", "--point", "no"], 2, ["no operating point 'no'", "p98"]),
        (["{model}", "{cohort}", "--point", "p98", "--threshold", "0.1"], 2, ["--point, --threshold"]),
        (["{model}", "{cohort}", "--scorer", "own", "--cleaner", "none"], 2, ["was calibrated for"]),
        (["{model}", "{cohort}", "--sizes-mm", "5,x"], 2, ["'5,x' is not a list of numbers", "--sizes-mm 5,10,20"]),
        (["{model}", "{cohort}", "--sizes-mm", "500"], 2, ["no implant can have 500 mm"]),
        (["{model}", "{cohort}", "--contrasts", "0"], 2, ["a contrast of +0 %"]),
        (["{model}", "{folder}/none.tsv"], 3, ["none.tsv"]),
        (["{model}", "{folder}/patients.tsv"], 3, ["no lesion-free scan", "group 'ms'"]),
        (["{model}", "{cohort}", "-o", "{scan}/out"], 2, ["s0.nii.gz: is a file; expected a folder"]),
        (["{model}", "{scan}", "--sizes-mm", "95"], 3, ["has no room for an implant of 95 mm"]),
    ],
    ids=lambda value: " ".join(value[2:]) if isinstance(value, list) else None,
)
def test_bad_input_is_one_line(
    histeq: Path, small_cohort: Path, tmp_path: Path, arguments: list[str], code: int, words: list[str]
) -> None:
    scan = small_cohort.parent / "s0.nii.gz"
    (tmp_path / "patients.tsv").write_text(f"subject\timage\tgroup\np\t{scan}\tms\n")
    names = {"cohort": small_cohort, "model": histeq, "folder": tmp_path, "scan": scan}
    given = [argument.format(**names) for argument in arguments]
    done = call("limits", "-o", tmp_path / "out", "--threads", "1", *given)
    last = [line for line in done.err.splitlines() if line.startswith("uadtk: ")]
    assert (done.code, len(last)) == (code, 1), done
    for word in words:
        assert word in last[0]
    assert not list(tmp_path.glob("out/limits*"))


def test_numbers() -> None:
    assert numbers("3, 5,8.5", "--sizes-mm") == (3.0, 5.0, 8.5)
    with pytest.raises(UsageError):
        numbers("", "--sizes-mm")
