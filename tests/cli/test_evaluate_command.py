"""``uadtk evaluate`` as a user meets it: the table, the JSON, and one line for what is wrong."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.commands import Done, call
from tests.scans import SMALL_AFFINE, small_brain


def table(text: str) -> dict[str, dict[str, str]]:
    return {row["measure"]: row for row in csv.DictReader(text.splitlines(), delimiter="\t")}


def evaluate(*arguments: object) -> Done:
    return call("evaluate", *arguments, "--threads", 1)


def test_a_table_beside_histeq(model: Path, cohort: Path, tmp_path: Path) -> None:
    done = evaluate(model, cohort, "--split", "test", "-o", tmp_path / "table.tsv")
    assert done.code == 0
    assert (tmp_path / "table.tsv").read_text() == done.out
    shown = table(done.out)
    assert list(next(iter(shown.values()))) == ["measure", "tiny", "histeq"]
    for name in ("auroc", "auprc", "dice_oracle", "dice", "lesion_recall", "fp_per_healthy_scan"):
        for column in ("tiny", "histeq"):
            value, low, high = (float(part.strip("[],")) for part in shown[name][column].split())
            assert low <= value <= high, name
    said = done.said
    assert said[0] == "1 scans of patients without a lesion mask are left out"
    assert said[1].startswith("5 scans of 5 patients, 4 with a lesion mask; point p98: score > ")
    assert said[2].startswith("lesions are ")
    assert said[3].startswith("1 of 4 labelled scans hold no lesion: their DICE is 1 if nothing is found")
    assert len(said) == 4


def test_json_for_programs(model: Path, cohort: Path) -> None:
    done = evaluate(model, cohort, "--where", "collection=ms", "--where", "group=ms", "--json", "--grid", "model")
    own, histeq = json.loads(done.out)
    assert (own["model"], histeq["model"]) == (str(model), "histeq")
    assert own["grid"] == histeq["grid"] == "model"
    assert [scan["subject"] for scan in own["scans"]] == ["p2", "p3", "p4"]
    assert own["options"]["scorer"] == "residual"
    assert histeq["options"]["cleaners"] == own["options"]["cleaners"]
    assert histeq["point"]["digest"] == own["point"]["digest"]
    assert histeq["point"]["scorer"] == "own"


def test_histeq_alone_has_one_column(cohort: Path) -> None:
    done = evaluate("histeq", cohort, "--where", "collection=ms")
    assert done.out.splitlines()[0] == "measure\thisteq"
    assert "dice" not in table(done.out)
    assert "; no operating point\n" in done.err


def test_another_scorer_goes_without_the_point_that_does_not_fit(model: Path, cohort: Path) -> None:
    done = evaluate(model, cohort, "--where", "collection=ms", "--cleaner", "none")
    assert done.code == 0
    assert "no operating point: operating point 'p98': was calibrated for residual" in done.err
    assert "dice" not in table(done.out)
    refused = evaluate(model, cohort, "--where", "collection=ms", "--cleaner", "none", "--point", "p98")
    refused.refused(2, "operating point 'p98': was calibrated for residual")


def test_scans_that_the_model_may_have_learned_are_said(model: Path, small_cohort: Path) -> None:
    done = evaluate(model, small_cohort)
    assert "3 scans are of split 'train'" in done.err
    assert "histeq has no operating point: the cohort lacks the scans on which 'p98' was calibrated" in done.err
    assert table(done.out)["dice"]["histeq"] == "-"


def test_one_patient_has_no_intervals(model: Path, small_cohort: Path) -> None:
    done = evaluate(model, small_cohort, "--split", "test")
    assert "one patient: no intervals" in done.err
    assert not any("[" in line for line in done.out.splitlines())


def test_a_cohort_without_lesions_is_good_for_false_positives(model: Path, small_cohort: Path) -> None:
    done = evaluate(model, small_cohort, "--split", "train")
    assert done.code == 0
    assert "no lesion in any mask: only false positives can be measured" in done.err
    assert list(table(done.out)) == ["fp_per_healthy_scan", "fp_ml_per_healthy_scan", "seconds", "peak_mb"]
    refused = evaluate("histeq", small_cohort, "--split", "train")
    refused.refused(2, "no lesion masks and no operating point", "lesion_mask")


Rewrite = Callable[[str, str], Path]


@pytest.fixture
def rewritten(cohort: Path) -> Iterator[Rewrite]:
    """The cohort's table with some text replaced, beside its scans."""
    path = cohort.with_name("other.tsv")

    def rewrite(old: str, new: str) -> Path:
        text = cohort.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        return path

    yield rewrite
    path.unlink(missing_ok=True)


def test_a_scan_that_fails_is_said_and_counts_at_the_end(model: Path, cohort: Path, rewritten: Rewrite) -> None:
    cut = cohort.with_name("cut.nii.gz")
    nib.save(nib.Nifti1Image(np.ones((44, 52, 23), np.uint8), SMALL_AFFINE), cut)
    done = evaluate(model, rewritten("p3_lesion.nii.gz", "cut.nii.gz"), "--where", "collection=ms")
    assert done.code == 1
    assert done.err.count("p3: failed: ") == 1
    assert f"{cut}: the mask's grid" in done.err
    assert "2 scans of 2 patients" in done.err
    assert table(done.out)["auprc"]["tiny"] != "-"


def test_histeq_is_measured_on_the_scans_that_the_model_could_score(
    model: Path, cohort: Path, rewritten: Rewrite
) -> None:
    nib.save(nib.Nifti1Image(small_brain()[0][:, :, :12], SMALL_AFFINE), cohort.with_name("cut.nii.gz"))
    done = evaluate(model, rewritten("p2_lesion.nii.gz", "cut.nii.gz"), "--where", "collection=ms", "--json")
    own, histeq = json.loads(done.out)
    subjects = [[scan["subject"] for scan in one["scans"]] for one in (own, histeq)]
    assert subjects == [["p3", "p4"], ["p3", "p4"]]
    assert (len(own["failed"]), histeq["failed"]) == (1, [])


def test_lesions_outside_the_brain_are_said(model: Path, cohort: Path, rewritten: Rewrite) -> None:
    outside = ~small_brain(3)[1]
    outside[:-2] = False
    nib.save(nib.Nifti1Image(outside.astype(np.uint8), SMALL_AFFINE), cohort.with_name("outside.nii.gz"))
    done = evaluate(model, rewritten("p3_lesion.nii.gz", "outside.nii.gz"), "--where", "collection=ms")
    assert done.code == 0
    assert "of the lesion voxels lie outside the brain" in done.err
    assert f"p3: no lesion voxel lies in the brain; check {cohort.parent / 'p3.nii.gz'}" in done.err


def test_bad_input_costs_one_line(model: Path, cohort: Path, rewritten: Rewrite, tmp_path: Path) -> None:
    evaluate(model, cohort, "--point", "p97").refused(2, "no operating point 'p97'")
    evaluate(model, cohort, "--where", "colour=red").refused(2, "no column 'colour'")
    evaluate(model, cohort, "--where", "collection").refused(2, "--where: 'collection' is not COLUMN=VALUE")
    evaluate(model, cohort, "--where", "collection=lgg").refused(3, "no scans with collection 'lgg'")
    evaluate(model, cohort, "--split", "holdout").refused(3, "holdout")
    evaluate(model, cohort, "-o", tmp_path).refused(2, str(tmp_path))
    evaluate(model, tmp_path / "none.tsv").refused(3, "none.tsv")
    evaluate(tmp_path / "none.safetensors", cohort).refused(4, "none.safetensors")
    evaluate(model, rewritten("lesion_mask", "lesions")).refused(3, "'lesions', which is nearly 'lesion_mask'")
    evaluate(model, rewritten("lesion_mask", "other"), "--where", "collection=unmarked").refused(
        3, "no scan has a lesion mask", "column lesion_mask"
    )
    evaluate(model, rewritten("p1\t", "p2\t"), "--split", "test").refused(3, "subject 'p2' is in two splits")
    evaluate(model, rewritten("subject", "name")).refused(3, "the table has no column 'subject'")
