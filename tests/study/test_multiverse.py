"""Every universe's DICE is what calibrating and evaluating in it would give; what was found is not done again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.commands import besides_amber
from tests.scans import SMALL_AFFINE, small_brain
from uadtk import checkpoint as checkpoints
from uadtk.checkpoint import Checkpoint
from uadtk.core.errors import DataError
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.spec import Spec, parse_all
from uadtk.core.thresholder import CalibrationScan, OperatingPoint
from uadtk.core.volume import Grid
from uadtk.io.cohort import Cohort, read_cohort, read_row
from uadtk.metrics.multiverse import Multiverse
from uadtk.metrics.overlap import dice
from uadtk.pipeline.evaluate import evaluate
from uadtk.pipeline.score import build_method, score_slices
from uadtk.pipeline.threshold import calibrate
from uadtk.preparation import prepare
from uadtk.preparation.lesion_free import lesion_of, normal_voxels
from uadtk.study import multiverse as module
from uadtk.study.multiverse import chain, multiverse

CHAINS = ((0, 0.0), (2, 5.0))  # of no cleaning, and of one that compiles quickly
ENOUGH = Spec.parse("healthy-fp:min_voxels=1,epsilon=0.5,delta=0.5")  # one subject will do

pytestmark = pytest.mark.slow  # most take several seconds


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Validation: two healthy scans, two patients. Test: a patient with two scans, one with some lesion outside."""
    folder = tmp_path_factory.mktemp("multiverse")
    lines = ["subject\timage\tlesion_mask\tsplit"]
    kinds = ["validation healthy", "validation healthy", "validation a", "validation b", "test c", "test c", "test d"]
    for i, kind in enumerate(kinds):
        split, subject = kind.split()
        image, brain, lesion = small_brain(i, lesion=subject != "healthy")
        if subject == "d":
            lesion[:2, :2, :2] = True
            assert not (brain & lesion)[:2, :2, :2].any()
        nib.save(nib.Nifti1Image(image, SMALL_AFFINE), folder / f"p{i}.nii.gz")
        nib.save(nib.Nifti1Image(lesion.astype(np.uint8), SMALL_AFFINE), folder / f"p{i}_lesion.nii.gz")
        mask = "" if subject == "healthy" else f"p{i}_lesion.nii.gz"
        lines.append(f"{subject if mask else f'healthy{i}'}\tp{i}.nii.gz\t{mask}\t{split}")
    (folder / "cohort.tsv").write_text("\n".join(lines) + "\n")
    return read_cohort(folder / "cohort.tsv")


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHAINS", CHAINS)
    monkeypatch.setitem(module.RULES, "healthy-fp", ENOUGH)


def histeq(erosion: int = 1, median_mm: float = 0.0) -> Checkpoint:
    return replace(checkpoints.new("histeq", {}, Preparation()), cleaners=chain((Spec("prior"),), erosion, median_mm))


def measure(rows: Cohort, calibration: Cohort, folder: Path, run: Run | None = None) -> Multiverse:
    return multiverse(histeq(), "histeq", "tiny", rows, calibration, folder, run or Run())


@pytest.fixture(scope="module")
def found(table: Cohort, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str | float, ...], float]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHAINS", CHAINS)
        patch.setitem(module.RULES, "healthy-fp", ENOUGH)
        whole = measure(table.split("test"), table.split("validation"), tmp_path_factory.mktemp("whole"))
    assert (whole.collection, whole.label) == ("tiny", "histeq")
    return {universe.choices: universe.dice for universe in whole.universes}


def own_dice(checkpoint: Checkpoint, rows: Cohort, point: OperatingPoint, grid: Grid, min_voxels: int) -> float:
    """DICE per patient of the evaluation at that point, with that floor."""
    return evaluate(checkpoint, rows, replace(point, min_voxels=min_voxels), Run(), grid).measures["dice"].value


def test_the_universes_are_all_combinations_of_the_switches(found: dict[tuple[str | float, ...], float]) -> None:
    assert len(found) == len(CHAINS) * 4 * 3 * 2
    assert {choices[0] for choices in found} == {"p98", "validation", "healthy-fp", "oracle"}
    assert {choices[3:] for choices in found} == {(floor, grid) for floor in (1, 8, 27) for grid in ("native", "model")}
    assert len(set(found.values())) > len(found) / 2  # the choices matter


def test_there_are_216_universes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert len(module.CHAINS) * len(module.RULES) * len(module.FLOORS) * len(module.GRIDS) == 216


@pytest.mark.parametrize(("erosion", "median_mm"), CHAINS)
@pytest.mark.parametrize("rule", ["p98", "validation", "healthy-fp"])
def test_on_the_scans_own_grid_it_is_calibration_and_evaluation(
    rule: str, erosion: int, median_mm: float, table: Cohort, found: dict[tuple[str | float, ...], float]
) -> None:
    checkpoint, rows = histeq(erosion, median_mm), table.split("test")
    point = calibrate(checkpoint, table.split("validation"), module.RULES[rule], "p", Run())
    for floor in (1, 8, 27):
        expected = own_dice(checkpoint, rows, point, "native", floor)
        assert found[rule, erosion, median_mm, floor, "native"] == pytest.approx(expected, abs=1e-12), floor


def test_on_the_models_grid_the_threshold_is_calibrated_there(
    table: Cohort, found: dict[tuple[str | float, ...], float]
) -> None:
    checkpoint = histeq(*CHAINS[1])
    method, values = build_method(checkpoint, Run()), []
    for row in table.split("validation"):
        scan, _ = read_row(row, Run())
        prepared = prepare(scan, checkpoint.preparation, Run())
        abnormal = prepared.to_slices(~normal_voxels(row, scan, lesion_of(row, scan, Run())))
        values.append(score_slices(prepared, method, Run())[0][prepared.brain & ~abnormal])
    point = calibrate(checkpoint, table.split("validation"), Spec("p98"), "p", Run())
    point = replace(point, threshold=float(np.quantile(np.concatenate(values), 0.98)))
    for floor in (1, 8, 27):
        expected = own_dice(checkpoint, table.split("test"), point, "model", floor)
        assert found["p98", *CHAINS[1], floor, "model"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("grid", ["native", "model"])
def test_of_one_scan_the_oracle_without_floor_is_its_best_dice(grid: Grid, table: Cohort, tmp_path: Path) -> None:
    (row,) = (row for row in table if row.subject == "d")
    rows = Cohort((row,), "")
    whole = measure(rows, table.split("validation"), tmp_path)
    for choice in CHAINS:
        measures = evaluate(histeq(*choice), rows, None, Run(), grid).measures
        (own,) = (u.dice for u in whole.universes if u.choices == ("oracle", *choice, 1, grid))
        assert own == pytest.approx(measures["dice_oracle_volume"].value, abs=1e-12)


def test_a_patients_scans_are_averaged_first(table: Cohort, tmp_path: Path) -> None:
    rows = table.split("test")
    by_scan = []
    for n, row in enumerate(rows):
        one = measure(Cohort((row,), ""), table.split("validation"), tmp_path / str(n))
        by_scan.append([u.dice for u in one.universes if u.rule == "p98"])
    both = measure(rows, table.split("validation"), tmp_path)
    c, again, d = np.array(by_scan)
    assert [u.dice for u in both.universes if u.rule == "p98"] == pytest.approx(((c + again) / 2 + d) / 2)


def test_an_empty_mask_of_an_empty_truth_is_right() -> None:
    score = np.zeros((4, 4, 4), np.float32)
    score[0, 0, 0] = 1
    scan = CalibrationScan("s", score, score >= 0, score > 9, 1.0)
    assert module._dice_of(scan, 1, np.array([0.5, 1.0], np.float32)).tolist() == [0, 1]
    assert module._dice_of(scan, 2, np.array([0.5, 1.0], np.float32)).tolist() == [1, 1]
    assert dice(score > 1, score > 9) == 1


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ((), ("erode:iterations=3", "median:size=6,unit=mm")),
        (("erode", "median:size=5"), ("erode:iterations=3", "median:size=6,unit=mm")),
        (("median:size=5", "erode"), ("median:size=6,unit=mm", "erode:iterations=3")),
        (("prior:power=2",), ("erode:iterations=3", "prior:power=2", "median:size=6,unit=mm")),
        (("erode", "prior", "median"), ("erode:iterations=3", "prior", "median:size=6,unit=mm")),
    ],
)
def test_other_cleaners_keep_their_place(own: tuple[str, ...], expected: tuple[str, ...]) -> None:
    chosen = parse_all(own)
    assert tuple(map(str, chain(chosen, 3, 6.0))) == expected
    assert tuple(map(str, chain(chosen, 0, 0.0))) == tuple(
        "erode:iterations=0" if spec.startswith("erode") else spec for spec in expected if "median" not in spec
    )


def test_what_was_found_is_not_done_again(table: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, calibration = Cohort(tuple(table.split("test"))[:1], ""), Cohort(tuple(table)[:1], "")
    said: list[str] = []
    first = measure(rows, calibration, tmp_path, Run(say=said.append))
    said[:] = besides_amber(said)
    assert said == ["rule validation: left out for 4 of 4 cleaned scores: no calibration scan with a lesion mask"]
    (path,) = (tmp_path / "multiverse").iterdir()
    record = json.loads(path.read_text())
    assert (record["digest"], record["patients"], record["said"]) == (path.stem, 1, said)

    monkeypatch.setattr(module, "score_all", None)  # no scan can be scored any more
    again = measure(rows, calibration, tmp_path, Run(say=said.append))
    assert (again, said) == (first, said[:1] * 2)
    with pytest.raises(TypeError, match="not callable"):
        measure(rows, Cohort(tuple(table)[:2], ""), tmp_path)
    monkeypatch.setattr(module, "FLOORS", (1,))
    with pytest.raises(TypeError, match="not callable"):
        measure(rows, calibration, tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 0, "key": {}}'])
def test_a_damaged_file_is_done_again(text: str, table: Cohort, tmp_path: Path) -> None:
    rows, calibration = Cohort(tuple(table.split("test"))[:1], ""), Cohort(tuple(table)[:1], "")
    first = measure(rows, calibration, tmp_path)
    (path,) = (tmp_path / "multiverse").iterdir()
    whole = path.read_text()
    path.write_text(text)
    said: list[str] = []
    assert measure(rows, calibration, tmp_path, Run(say=said.append)) == first
    assert said[0] == f"measured again: {path} is damaged or of another format"
    assert path.read_text() == whole


def test_a_scan_that_fails_and_a_rule_that_needs_more_subjects_are_left_out_and_said(
    table: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module.RULES, "healthy-fp", Spec.parse("healthy-fp:min_voxels=1"))
    good, *_, other = table.split("test")
    rows = Cohort((good, replace(other, image=tmp_path / "none.nii.gz")), "")
    said: list[str] = []
    found = measure(rows, table.split("validation"), tmp_path, Run(say=said.append))
    assert {universe.rule for universe in found.universes} == {"p98", "validation", "oracle"}
    scan, rule = besides_amber(said)
    assert scan.startswith("d: failed: ")
    assert "none.nii.gz" in scan
    assert "rule healthy-fp: left out for 4 of 4 cleaned scores" in rule
    assert "needs 11 subjects, not 4" in rule
    assert found == measure(Cohort((good,), ""), table.split("validation"), tmp_path / "one")


def test_it_is_said_why_it_is_measured_again(table: Cohort, tmp_path: Path) -> None:
    good, *_, other = table.split("test")
    rows = Cohort((good, replace(other, image=tmp_path / "none.nii.gz")), "")
    for words in ([], ["measured again: 1 scans had failed"]):
        said: list[str] = []
        measure(rows, Cohort(tuple(table)[:1], ""), tmp_path, Run(say=said.append))
        assert [line for line in said if line.startswith("measured")] == words


def test_what_cannot_be_done_is_one_clear_line(table: Cohort, tmp_path: Path) -> None:
    healthy = Cohort(tuple(table)[:2], "")
    with pytest.raises(DataError, match="no scan has a lesion mask"):
        measure(healthy, healthy, tmp_path)
    gone = Cohort(tuple(replace(row, image=tmp_path / "none.nii.gz") for row in healthy), "")
    with pytest.raises(DataError, match="none of 2 scans could be scored"):
        measure(table.split("test"), gone, tmp_path)
    assert not (tmp_path / "multiverse").exists()
