"""One checkpoint on a labelled cohort: the numbers, both grids, and the rows that cannot be used."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from tests.commands import besides_amber
from tests.scans import SMALL_AFFINE, patients
from uadtk import checkpoint as checkpoints
from uadtk.checkpoint import Checkpoint
from uadtk.core.errors import DataError, UsageError
from uadtk.core.finding import Scoring
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.spec import Spec, parse_all
from uadtk.core.volume import Grid, Mask, Scan
from uadtk.io.cohort import Cohort, Row, content_digest, read_cohort, read_row
from uadtk.metrics.overlap import dice
from uadtk.networks.seeded import seeded
from uadtk.pipeline.evaluate import baseline, evaluate, fitting_point
from uadtk.pipeline.score import build_method
from uadtk.pipeline.segment import segment
from uadtk.pipeline.threshold import calibrate
from uadtk.preparation import prepare


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return read_cohort(patients(tmp_path_factory.mktemp("patients")))


@pytest.fixture(scope="module")
def checkpoint(table: Cohort) -> Checkpoint:
    bare = replace(
        checkpoints.new("histeq", {}, Preparation()), cleaners=parse_all(["erode:iterations=1", "median:size=3"])
    )
    return bare.with_point(calibrate(bare, table.split("validation"), Spec.parse("p98:percentile=99"), "p", Run()))


def test_every_number_is_that_of_segment_and_of_scikit_learn(checkpoint: Checkpoint, table: Cohort) -> None:
    point, method = checkpoint.point("p"), build_method(checkpoint, Run())
    scores, truths, dices, found = [], [], [], {}
    for row in table.where(collection="ms"):
        scan, brain = read_row(row, Run())
        truth = np.asarray(nib.load(row.lesion_mask).dataobj) > 0
        result = segment(scan, method, point, Run(), brain)
        inside = result.scoring.brain.voxels
        scores.append(result.scoring.score.voxels[inside])
        truths.append(truth[inside])
        dices.append(dice(result.mask.voxels, truth))
        found[row.subject] = (len(result.findings), sum(f.volume_ml for f in result.findings))
    evaluation = evaluate(checkpoint, table.where(collection="ms"), point, Run())
    score, truth = np.concatenate(scores), np.concatenate(truths)
    value = {name: measure.value for name, measure in evaluation.measures.items()}
    assert value["auprc"] == pytest.approx(average_precision_score(truth, score), abs=1e-9)
    assert value["auroc"] == pytest.approx(roc_auc_score(truth, score), abs=1e-9)
    assert value["dice"] == pytest.approx(np.mean(dices))
    assert value["dice_sd"] == pytest.approx(np.std(dices, ddof=1))
    assert math.isnan(value["l1_anomalous"])  # histeq makes no reconstruction
    assert evaluation.lesion_share == pytest.approx(truth.mean())
    assert {s.subject: (s.components, pytest.approx(s.mask_ml)) for s in evaluation.scans} == found
    assert value["dice_oracle"] > 0.5
    assert all(scan.found == scan.lesions == 1 for scan in evaluation.scans)


def test_on_the_models_grid_most_of_a_pixel_must_be_lesion(checkpoint: Checkpoint, table: Cohort) -> None:
    row = next(iter(table.where(collection="ms")))
    scan, _ = read_row(row, Run())
    prepared = prepare(scan, checkpoint.preparation, Run())
    truth = prepared.to_slices(np.asarray(nib.load(row.lesion_mask).dataobj) > 0)
    evaluation = evaluate(checkpoint, Cohort((row,), ""), checkpoint.point("p"), Run(), "model")
    (result,) = evaluation.scans
    native = np.asarray(nib.load(row.lesion_mask).dataobj).sum() * scan.voxel_ml
    assert truth.sum() * np.prod(prepared.spacing_mm) / 1000 == pytest.approx(native, rel=0.1)
    assert result.brain_voxels == prepared.brain.sum()
    assert result.lesion_voxels == truth.sum()
    assert result.lesion_outside == (truth & ~prepared.brain).sum()
    assert 0.5 < result.dice <= 1


@pytest.mark.parametrize("grid", ["native", "model"])
def test_l1_is_the_error_of_the_reconstruction_whatever_becomes_of_the_score(grid: Grid, table: Cohort) -> None:
    """On the slices the error is |x - x̂|, brain p98 = 1: not eroded, not filtered, of both signs."""
    fresh = checkpoints.new("ae-spatial", {}, Preparation())
    with seeded(0):
        untrained = fresh.new_model()
    torch.nn.init.constant_(untrained.decoder[-1].bias, 0.6)  # brighter than some tissue, darker than other
    fresh = replace(fresh, weights=checkpoints.pack(untrained))
    rows = table.where(collection="ms")
    values = []
    for scorer, cleaners in (("residual", "erode:iterations=5"), ("residual:polarity=absolute", "median:size=3")):
        one = replace(fresh, scorer=Spec.parse(scorer), cleaners=parse_all([cleaners]))
        measures = evaluate(one, rows, None, Run(), grid).measures
        values.append([measures[name].value for name in ("l1_normal", "l1_anomalous")])
    assert values[0] == values[1]
    errors, model = [], fresh.build()
    for row in rows:
        scan, _ = read_row(row, Run())
        prepared = prepare(scan, fresh.preparation, Run())
        x = torch.from_numpy(prepared.image)[:, None]
        with torch.inference_mode():
            error = (x - model.reconstruct(x)).abs()[:, 0].numpy() * prepared.brain  # type: ignore[operator]
        truth = np.asarray(nib.load(row.lesion_mask).dataobj) > 0
        brain = prepared.own_brain.voxels if grid == "native" else prepared.brain
        error = prepared.to_own_grid(error) if grid == "native" else error
        truth = truth if grid == "native" else prepared.to_slices(truth)
        errors.append((error[brain], truth[brain]))
    error, truth = (np.concatenate(parts) for parts in zip(*errors, strict=True))
    assert values[0] == pytest.approx([error[~truth].mean(), error[truth].mean()], rel=1e-4)


def test_the_grids_agree_about_an_easy_lesion(checkpoint: Checkpoint, table: Cohort) -> None:
    rows, point = table.where(collection="ms"), checkpoint.point("p")
    native, model = (evaluate(checkpoint, rows, point, Run(), grid).measures for grid in ("native", "model"))
    assert native["auroc"].value == pytest.approx(model["auroc"].value, abs=0.05)
    assert native["dice"].value != model["dice"].value


def test_who_counts_for_what(checkpoint: Checkpoint, table: Cohort) -> None:
    said: list[str] = []
    evaluation = evaluate(checkpoint, table.split("test"), checkpoint.point("p"), Run(say=said.append))
    assert besides_amber(said) == ["1 scans of patients without a lesion mask are left out"]
    assert [(s.subject, s.labelled) for s in evaluation.scans] == [
        ("p2", True),
        ("p3", True),
        ("p4", True),
        ("p5", True),
        ("p6", False),
    ]
    empty, healthy = evaluation.scans[3:]
    assert (empty.lesions, healthy.lesions, healthy.dice) == (0, None, None)
    assert empty.dice == (0.0 if empty.components else 1.0)
    expected = np.mean([empty.components, healthy.components])
    assert evaluation.measures["fp_per_healthy_scan"].value == expected
    only = evaluate(checkpoint, table.where(collection="ms"), checkpoint.point("p"), Run()).measures
    assert evaluation.measures["auprc"].value <= only["auprc"].value  # the empty mask's voxels are pooled
    assert "fp_per_healthy_scan" not in only


def test_without_a_point_there_is_no_dice_and_without_lesions_no_curve(checkpoint: Checkpoint, table: Cohort) -> None:
    without = evaluate(checkpoint, table.where(collection="ms"), None, Run())
    assert {"auprc", "l1_normal", "chi_squared"} <= set(without.measures)
    assert not {"dice", "lesion_recall"} & set(without.measures)
    assert all(scan.dice is scan.components is None for scan in without.scans)
    healthy = evaluate(checkpoint, table.split("validation"), checkpoint.point("p"), Run())
    assert set(healthy.measures) == {"fp_per_healthy_scan", "fp_ml_per_healthy_scan", "seconds", "peak_mb"}
    with pytest.raises(UsageError, match="nothing to measure"):
        evaluate(checkpoint, table.split("validation"), None, Run())
    with pytest.raises(DataError, match="no scan has a lesion mask"):
        evaluate(checkpoint, table.where(collection="unmarked"), checkpoint.point("p"), Run())


def test_the_json_holds_all_that_is_needed_to_do_it_again(checkpoint: Checkpoint, table: Cohort) -> None:
    rows = Cohort(tuple(table.where(collection="ms"))[:1], "somewhere")
    evaluation = evaluate(checkpoint, rows, checkpoint.point("p"), Run(seed=5))
    record = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    assert record["measures"]["dice_sd"] == {"value": None, "interval": None}
    assert record["measures"]["auprc"]["value"] == evaluation.measures["auprc"].value
    assert record["options"]["checkpoint_digest"] == checkpoint.digest
    assert record["options"]["cohort_digest"] == content_digest(rows)
    assert (record["options"]["seed"], record["options"]["min_voxels"]) == (5, 8)
    assert record["point"]["threshold"] == checkpoint.point("p").threshold


def test_the_same_seed_gives_the_same_interval(checkpoint: Checkpoint, table: Cohort) -> None:
    rows = table.where(collection="ms")
    one, other = (evaluate(checkpoint, rows, None, Run(seed=1)).measures["auprc"] for _ in range(2))
    assert one == other
    assert one.interval[0] <= one.value <= one.interval[1]


def test_a_scan_that_fails_is_left_out(checkpoint: Checkpoint, table: Cohort, tmp_path: Path) -> None:
    rows = list(table.where(collection="ms"))
    other_grid = tmp_path / "lesion.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((44, 52, 23), np.uint8), SMALL_AFFINE), other_grid)
    rows[1] = replace(rows[1], lesion_mask=other_grid)
    said: list[str] = []
    evaluation = evaluate(checkpoint, Cohort(tuple(rows), ""), None, Run(say=said.append))
    assert [scan.subject for scan in evaluation.scans] == ["p2", "p4"]
    ((image, reason),) = evaluation.failed
    assert image == str(rows[1].image)
    assert besides_amber(said) == [f"p3: failed: {reason}"]
    assert f"{other_grid}: the mask's grid" in reason
    with pytest.raises(DataError, match="the mask's grid"):
        evaluate(checkpoint, Cohort((rows[1],), ""), None, Run())
    with pytest.raises(DataError, match="none of 2 scans could be evaluated"):
        evaluate(checkpoint, Cohort((rows[1], replace(rows[0], lesion_mask=other_grid)), ""), None, Run())


def test_a_point_must_fit_the_scores(checkpoint: Checkpoint, table: Cohort) -> None:
    other = replace(checkpoint, cleaners=())
    with pytest.raises(UsageError, match="was calibrated for"):
        evaluate(other, table.where(collection="ms"), checkpoint.point("p"), Run())
    said: list[str] = []
    run = Run(say=said.append)
    assert fitting_point(checkpoint, None, run) == checkpoint.points[0]
    assert fitting_point(replace(checkpoint, points=()), None, run) is None
    assert said == []
    assert fitting_point(other, None, run) is None
    assert "was calibrated for" in said[0]
    with pytest.raises(UsageError, match="was calibrated for"):
        fitting_point(other, "p", run)
    with pytest.raises(UsageError, match="no operating point 'q'"):
        fitting_point(checkpoint, "q", run)


def test_the_baseline_is_histeq_calibrated_on_the_same_scans(checkpoint: Checkpoint, table: Cohort) -> None:
    bare, point = baseline(checkpoint, checkpoint.point("p"), table, Run())
    assert (bare.model, bare.cleaners, bare.preparation) == ("histeq", checkpoint.cleaners, checkpoint.preparation)
    assert point == checkpoint.point("p")  # of the checkpoint that is histeq itself
    assert baseline(checkpoint, checkpoint.point("p"), table.split("test"), Run())[1] is None
    assert baseline(checkpoint, None, table, Run())[1] is None


def test_a_bug_in_one_scan_costs_that_scan(
    checkpoint: Checkpoint, table: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks_on_p3(row: Row, run: Run) -> tuple[Scan, Mask | None]:
        if row.subject == "p3":
            raise ZeroDivisionError("by zero")
        return read_row(row, run)

    monkeypatch.setattr("uadtk.pipeline.evaluate.read_row", breaks_on_p3)
    found = evaluate(checkpoint, table.where(collection="ms"), None, Run())
    assert [scan.subject for scan in found.scans] == ["p2", "p4"]
    ((image, reason),) = found.failed
    assert (Path(image).name, "failed unexpectedly (ZeroDivisionError: by zero)" in reason) == ("p3.nii.gz", True)


def test_every_labelled_scan_can_be_collected_from(checkpoint: Checkpoint, table: Cohort) -> None:
    collected: dict[str, tuple[float, int]] = {}

    class Gallery:
        def extract(self, row: Row, scoring: Scoring, lesion: Mask) -> Any:
            return row.subject, (float(scoring.score.voxels.max()), int(lesion.voxels.sum()))

        def add(self, extract: Any) -> None:
            collected.update([extract])

    found = evaluate(checkpoint, table, None, Run(), gallery=Gallery())
    assert {scan.subject: scan.lesion_voxels for scan in found.scans if scan.labelled} == {
        subject: voxels for subject, (_, voxels) in collected.items()
    }
    assert all(highest > 0 for highest, _ in collected.values())
