"""``uadtk benchmark`` and ``uadtk reproduce`` as a user meets them."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.commands import Done, call
from tests.scans import SMALL_AFFINE


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "tables.tsv"
    path.write_text("dataset\tapproach\tauroc\tauprc\nMSLUB\tVAE\t0.827\t0.234\n")
    return path


def benchmark(cohort: Path, model: object, folder: Path, *arguments: object) -> Done:
    return call("benchmark", cohort, "--model", model, "-o", folder, *arguments, "--threads", 1)


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines(), delimiter="\t"))


@pytest.fixture(scope="module")
def made(cohort: Path, model: Path, study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    folder = tmp_path_factory.mktemp("made") / "out"
    options = ["--scorer", "residual", "--scorer", "own", "--collection", "ms", "--published", study, "--multiverse"]
    return folder, benchmark(cohort, model, folder, *options, "--dataset", "ms=MSLUB", "--split", "test")


@pytest.mark.slow
def test_a_table_to_read_one_to_compute_with_and_a_receipt_per_row(made: tuple[Path, Done], model: Path) -> None:
    folder, done = made
    assert done.code == 0  # a scorer that the model cannot serve is no error
    assert done.out.startswith((folder / "table.txt").read_text())
    bare, own, refused = rows(folder / "table.tsv")
    assert (bare["model"], own["model"], own["scorer"]) == ("histeq", str(model), "residual")
    for row in (bare, own):
        assert float(row["auprc_low"]) <= float(row["auprc"]) <= float(row["auprc_high"])
        assert (row["patients"], row["point"], row["problem"]) == ("3", "p98", "")
        assert (folder / "rows" / f"{row['receipt']}.json").is_file()
    assert (own["dice_pairs_histeq"], bare["dice_pairs_histeq"]) == ("3", "")
    assert 2 / 2**3 <= float(own["dice_p_histeq"]) <= 1
    assert "needs score" in refused["problem"]
    assert len(list((folder / "rows").iterdir())) == 2
    assert [word for line in done.said if "/" in (word := line.split()[0])] == ["1/3", "2/3", "3/3"]
    assert json.loads((folder / "benchmark.json").read_text())["collections"] == ["ms"]


def test_a_page_to_look_at_and_every_way_of_post_processing(made: tuple[Path, Done]) -> None:
    folder, done = made
    page = (folder / "report.html").read_text()
    for words in ("Precision", "χ²", "tiny residual", "published", "universes", "data:image/png;base64,"):
        assert words in page, words
    assert "://" not in page.replace("http://www.w3.org/", "")  # nothing is fetched
    found = rows(folder / "multiverse.tsv")
    assert {row["label"] for row in found} == {"histeq", "tiny residual"}
    assert {row["rule"] for row in found} == {"p98", "oracle"}  # the calibration scans have no lesions
    assert len(found) == 2 * 2 * 3 * 3 * 3 * 2
    assert (folder / "multiverse.txt").read_text() in done.out
    assert any("rule validation: left out" in line for line in done.err.splitlines())
    pairs = rows(folder / "pairs.tsv")
    assert [(pair["measure"], pair["one"], pair["other"]) for pair in pairs] == [
        ("dice", "histeq", "tiny residual"),
        ("auprc", "histeq", "tiny residual"),
    ]


def test_a_second_run_adds_a_model_and_keeps_what_is_done(
    made: tuple[Path, Done], cohort: Path, model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(made[0], folder)
    times = {path: path.stat().st_mtime_ns for path in (folder / "rows").iterdir()}
    absolute = ["--scorer", "residual", "--scorer", "residual:polarity=absolute"]
    done = benchmark(cohort, model, folder, *absolute, "--collection", "ms", "--split", "test")
    assert done.code == 0
    assert done.err.count("measured before") == 2
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert len(list((folder / "rows").iterdir())) == 3
    assert len(rows(folder / "table.tsv")) == 3


def test_a_scan_that_fails_counts_at_the_end(cohort: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(cohort.parent, folder)
    nib.save(nib.Nifti1Image(np.ones((44, 52, 23), np.uint8), SMALL_AFFINE), folder / "p3_lesion.nii.gz")
    done = benchmark(folder / "cohort.tsv", "histeq", tmp_path / "out", "--collection", "ms")
    assert done.code == 1
    assert done.err.count("p3: failed: ") == 1
    (row,) = rows(tmp_path / "out" / "table.tsv")
    assert (row["scans"], row["failed"]) == ("2", "1")
    assert benchmark(folder / "cohort.tsv", "histeq", tmp_path / "out", "--collection", "ms").code == 1


def test_one_patient_has_neither_interval_nor_p(model: Path, small_cohort: Path, tmp_path: Path) -> None:
    done = benchmark(small_cohort, model, tmp_path / "out")
    assert done.code == 0
    assert "tiny: 3 scans are of split 'train': the models may have learned them" in done.err
    assert "tiny: fewer than two patients with a lesion mask: no intervals, no p-values" in done.err
    assert "histeq has no operating point: the cohort lacks the scans on which 'p98' was calibrated" in done.err
    bare, own = rows(tmp_path / "out" / "table.tsv")
    assert (own["auprc_low"], own["auprc_p_histeq"], bare.get("dice", "")) == ("", "", "")
    assert own["auprc_difference_histeq"] != ""


def test_bad_input_costs_one_line(model: Path, cohort: Path, study: Path, small_cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    benchmark(cohort, model, out, "--point", "p97").refused(2, "no operating point 'p97'")
    benchmark(cohort, model, out, "--scorer", "residul").refused(2, "residual")
    benchmark(cohort, model, out, "--collection", "lgg").refused(3, "no scans with collection 'lgg'")
    benchmark(cohort, model, out, "--split", "validation").refused(3, "no scan has a lesion mask", "lesion_mask")
    benchmark(cohort, tmp_path / "none.safetensors", out).refused(4, "none.safetensors")
    benchmark(cohort, "vae", out).refused(2, "no weights are shipped for this model")
    benchmark(tmp_path / "none.tsv", model, out).refused(3, "none.tsv")
    benchmark(cohort, model, out, "--dataset", "ms=MSLUB").refused(2, "--dataset: needs --published")
    benchmark(cohort, model, out, "--calibrate", "train").refused(2, "--calibrate: needs --strategy or --multiverse")
    benchmark(cohort, model, out, "--published", study, "--dataset", "ms").refused(2, "is not COLLECTION=DATASET")
    benchmark(cohort, model, out, "--published", study, "--dataset", "ms=MS").refused(2, "no 'MS'")
    benchmark(cohort, model, out, "--published", tmp_path / "none.tsv").refused(3, "none.tsv: cannot be read")
    assert not out.exists()
    benchmark(cohort, model, model).refused(1, str(model), "a file is where a folder should be")
    text = cohort.read_text()
    for name, other, words in (
        ("twice.tsv", text.replace("p1\t", "p2\t"), "subject 'p2' is in two splits"),
        ("column.tsv", text.replace("subject", "name"), "the table has no column 'subject'"),
        ("lesions.tsv", text.replace("lesion_mask", "other"), "no scan has a lesion mask"),
        ("nearly.tsv", text.replace("lesion_mask", "lesions"), "'lesions', which is nearly 'lesion_mask'"),
    ):
        path = cohort.with_name(name)
        path.write_text(other)
        benchmark(path, model, out).refused(3, words)
        path.unlink()


def test_reproduce_says_that_the_numbers_are_the_same_or_which_are_not(
    made: tuple[Path, Done], model: Path, tmp_path: Path
) -> None:
    receipt = made[0] / "rows" / f"{rows(made[0] / 'table.tsv')[1]['receipt']}.json"
    done = call("reproduce", receipt, "--threads", 1)
    assert (done.code, done.out, done.said) == (0, "the same numbers\n", [])
    record = json.loads(receipt.read_text())
    record["evaluation"]["measures"]["auprc"]["value"] += 0.01
    (tmp_path / "edited.json").write_text(json.dumps(record))
    done = call("reproduce", tmp_path / "edited.json", "--threads", 1)
    assert done.code == 1
    assert done.out.startswith("measure.auprc.value: ")
    assert done.out.count("\n") == 1


def test_reproduce_refuses_other_files_by_name(made: tuple[Path, Done], small_cohort: Path, tmp_path: Path) -> None:
    receipt = made[0] / "rows" / f"{rows(made[0] / 'table.tsv')[1]['receipt']}.json"
    call("reproduce", receipt, "--model", "scalespace").refused(4, "scalespace: is not the checkpoint of the receipt")
    call("reproduce", receipt, "--model", tmp_path / "gone.safetensors").refused(4, "gone.safetensors: cannot be read")
    call("reproduce", receipt, "--cohort", small_cohort).refused(3, "no scans with collection 'ms'")
    call("reproduce", tmp_path / "none.json").refused(3, "none.json: cannot be read")
    call("reproduce", small_cohort).refused(3, "is not a receipt")
