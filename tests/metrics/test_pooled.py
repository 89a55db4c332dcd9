"""A cohort's measures from its scans, against scikit-learn on all voxels at once."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from uadtk.metrics.cost import Cost
from uadtk.metrics.measures import CURVE, HEALTHY, POINT, VOXEL
from uadtk.metrics.pooled import pooled
from uadtk.metrics.samples import SAMPLES, sample_measures
from uadtk.metrics.scan import ScanMaps, ScanSums, measure_scan

SHAPE = (12, 10, 8)
POINT_AT = 0.6


def maps_of(seed: int, subject: str = "", lesion: bool | None = True) -> ScanMaps:
    """A scan whose score correlates with its lesions; ``lesion`` None: not annotated."""
    rng = np.random.default_rng(seed)
    brain = np.zeros(SHAPE, bool)
    brain[2:10, 2:9, 1:8] = True
    truth = np.zeros(SHAPE, bool)
    if lesion:
        truth[2:6, 3:6, 2:5] = truth[8:11, 4:7, 4:6] = True  # the second one leaves the brain
    score = (0.6 * rng.random(SHAPE) + 0.3 * truth) * brain
    error = (score + 0.2 * rng.random(SHAPE)) * brain
    score[2] = 0  # the rim, as if eroded
    marked = None if lesion is None else truth
    names = (subject or f"s{seed}", f"{seed}.nii", None)
    return ScanMaps(
        *names,
        score.astype(np.float32),
        brain,
        marked,
        0.01,
        Cost(seed, 100),
        error=error.astype(np.float32),
        slice_scores=score.max(axis=(0, 1)).astype(np.float32),
        slice_truths=np.asarray(truth.any(axis=(0, 1))),
    )


def measured(scan_maps: list[ScanMaps], folder: Path, threshold: float | None = POINT_AT) -> list[ScanSums]:
    return [measure_scan(one, threshold, 2).save(folder / f"{k:06d}") for k, one in enumerate(scan_maps)]


def test_pooled_measures_are_those_of_all_voxels_together(tmp_path: Path) -> None:
    scan_maps = [maps_of(0), maps_of(1), maps_of(2, lesion=False), maps_of(3, lesion=None)]
    found = pooled(measured(scan_maps, tmp_path), True, 0).measures
    labelled = scan_maps[:3]
    for where, brains in (("", [one.brain for one in labelled]), ("_volume", [np.ones(SHAPE, bool)] * 3)):
        score = np.concatenate([one.score[brain] for one, brain in zip(labelled, brains, strict=True)])
        truth = np.concatenate([one.truth[brain] for one, brain in zip(labelled, brains, strict=True)])
        best = max(f1_score(truth, score >= t) for t in np.unique(score[truth]))
        assert found[f"auroc{where}"].value == pytest.approx(roc_auc_score(truth, score), abs=1e-12)
        assert found[f"auprc{where}"].value == pytest.approx(average_precision_score(truth, score), abs=1e-12)
        assert found[f"dice_oracle{where}"].value == pytest.approx(best, abs=1e-12)
    assert {*CURVE, *VOXEL, *SAMPLES, *POINT, *HEALTHY, "seconds", "peak_mb"} == set(found)


def test_what_a_picture_needs_adds_up_to_all_voxels(tmp_path: Path) -> None:
    scan_maps = [maps_of(0), maps_of(1)]
    found = pooled(measured(scan_maps, tmp_path), False, 0)
    score, truth = (np.concatenate([getattr(one, name)[one.brain] for one in scan_maps]) for name in ("score", "truth"))
    for name, kind in (("normal", ~truth), ("anomalous", truth)):
        assert sum(found.histograms[name]) == np.count_nonzero(kind & (score > 0))
    assert found.histograms["top"] == score.max()
    recall, precision = np.array(found.precision_recall).T
    assert (recall[-1], precision[-1]) == (1.0, pytest.approx(truth.mean()))
    assert len(recall) <= 200
    assert (np.diff(recall) > 0).all()
    none = pooled(measured([maps_of(2, lesion=False)], tmp_path), False, 0)
    assert (none.precision_recall, none.histograms) == ([], {})


def test_errors_are_those_of_the_reconstruction_and_histograms_of_the_score(tmp_path: Path) -> None:
    scan_maps = [maps_of(0), maps_of(1)]
    found = pooled(measured(scan_maps, tmp_path), False, 0).measures
    score = np.concatenate([one.score[one.brain] for one in scan_maps])
    truth = np.concatenate([one.truth[one.brain] for one in scan_maps])
    error = np.concatenate([one.error[one.brain] for one in scan_maps])
    assert found["l1_normal"].value == pytest.approx(error[~truth].mean(), rel=1e-6)
    assert found["l1_anomalous_sd"].value == pytest.approx(error[truth].std(ddof=1), rel=1e-5)
    kinds = (score[~truth & (score > 0)], score[truth & (score > 0)])
    normal, anomalous = (np.histogram(values, 100, (0, score.max()))[0] / values.size for values in kinds)
    both = np.maximum(normal + anomalous, 1e-30)
    assert found["chi_squared"].value == pytest.approx(0.5 * ((normal - anomalous) ** 2 / both).sum())
    assert found["l1_normal"].interval is not None
    assert "dice" not in found


def test_detection_of_slices_and_scans_is_that_of_scikit_learn(tmp_path: Path) -> None:
    """All scans count: healthy ones, with an empty mask or without, are normal samples."""
    scan_maps = [
        maps_of(0),
        maps_of(1, "s0"),
        maps_of(2),
        maps_of(3, lesion=False),
        maps_of(4, lesion=None),
        maps_of(5, lesion=None),
    ]
    found = sample_measures(measured(scan_maps, tmp_path), 0)
    slices, abnormal = (
        np.concatenate([getattr(one, f"slice_{name}") for one in scan_maps]) for name in ("scores", "truths")
    )
    scans, sick = np.array([one.score[one.brain].max() for one in scan_maps]), np.arange(6) < 3
    assert 0 < abnormal.mean() < 0.5
    for level, score, truth in (("slice", slices, abnormal), ("scan", scans, sick)):
        auroc, auprc = found[f"{level}_auroc"], found[f"{level}_auprc"]
        assert auroc.value == pytest.approx(roc_auc_score(truth, score), abs=1e-12)
        assert auprc.value == pytest.approx(average_precision_score(truth, score), abs=1e-12)
        assert auprc.interval[0] <= auprc.value <= auprc.interval[1]
    assert set(sample_measures(measured(scan_maps[:1], tmp_path), 0)) == {"slice_auroc", "slice_auprc"}
    assert not sample_measures(measured(scan_maps[4:], tmp_path), 0)


def test_without_a_reconstruction_there_is_no_error(tmp_path: Path) -> None:
    found = pooled(
        measured([replace(maps_of(0), error=None), replace(maps_of(1), error=None)], tmp_path), False, 0
    ).measures
    for name in VOXEL[:4]:
        assert math.isnan(found[name].value)
        assert found[name].interval is None
    assert found["chi_squared"].value > 0


def test_dice_is_a_mean_over_patients_and_their_scans_stay_together(tmp_path: Path) -> None:
    scans = measured([maps_of(0, "a"), maps_of(1, "a"), maps_of(2, "b"), maps_of(3, "c")], tmp_path)
    dices = [one.result.dice for one in scans]
    each = [(dices[0] + dices[1]) / 2, dices[2], dices[3]]
    found = pooled(scans, True, 0).measures
    assert found["dice"].value == pytest.approx(np.mean(each))
    assert found["dice_sd"].value == pytest.approx(np.std(each, ddof=1))
    low, high = found["dice"].interval
    assert min(each) <= low < np.mean(each) < high <= max(each)


def test_two_scans_of_one_patient_have_no_interval(tmp_path: Path) -> None:
    found = pooled(measured([maps_of(0, "a"), maps_of(1, "a")], tmp_path), True, 0).measures
    assert all(measure.interval is None for measure in found.values())
    assert math.isnan(found["dice_sd"].value)
    assert 0 < found["auprc"].value < 1


def test_lesions_components_and_dice_of_one_scan(tmp_path: Path) -> None:
    (one,) = measured([maps_of(0)], tmp_path)
    result, mask = one.result, maps_of(0).score > np.float32(POINT_AT)
    assert (result.lesions, result.found) == (2, 2)
    assert result.components >= result.true >= 1
    assert (result.lesion_voxels, result.lesion_outside) == (36 + 18, 6)
    assert one.outside == (6, 12 * 10 * 8 - 8 * 7 * 7 - 6)
    assert 0.5 < result.dice <= 1
    assert result.mask_ml <= mask.sum() * 0.01


def test_components_below_the_smallest_size_are_no_findings(tmp_path: Path) -> None:
    one = maps_of(0)
    score = np.zeros_like(one.score)
    score[4, 4, 3] = score[8, 2:5, 1] = 0.9
    scan = ScanMaps("s", "s.nii", None, score, one.brain, one.truth, 0.01, Cost())
    assert measure_scan(scan, POINT_AT, 1).sums.result.components == 2
    assert measure_scan(scan, POINT_AT, 2).sums.result.components == 1
    assert measure_scan(scan, POINT_AT, 2).sums.result.mask_ml == pytest.approx(0.03)


def test_false_positives_are_counted_on_scans_without_lesion_alone(tmp_path: Path) -> None:
    scans = measured([maps_of(0), maps_of(1, lesion=False), maps_of(2, lesion=None)], tmp_path, threshold=0.55)
    found = pooled(scans, True, 0).measures
    assert found["fp_per_healthy_scan"].value == np.mean([s.result.components for s in scans[1:]]) > 0
    assert found["fp_ml_per_healthy_scan"].value == pytest.approx(np.mean([s.result.mask_ml for s in scans[1:]]))


def test_healthy_scans_alone_have_false_positives_and_a_price(tmp_path: Path) -> None:
    found = pooled(measured([maps_of(0, lesion=None), maps_of(1, lesion=False)], tmp_path), True, 0).measures
    assert set(found) == {*HEALTHY, "seconds", "peak_mb"}
    assert not list(tmp_path.glob("000000.*"))
    assert (found["seconds"].value, found["peak_mb"].value) == (0.5, 100)


def test_lesions_outside_all_brains_leave_only_the_point(tmp_path: Path) -> None:
    one = maps_of(0)
    outside = ScanMaps("s", "s.nii", None, one.score, one.brain, ~one.brain & one.truth, 0.01, Cost())
    found = pooled(measured([outside], tmp_path), True, 0).measures
    assert "auprc" not in found
    assert found["dice"].value == 0.0


def test_intervals_hold_the_exact_value_and_narrow_with_patients(tmp_path: Path) -> None:
    widths = []
    for n in (4, 16):
        folder = tmp_path / str(n)
        folder.mkdir()
        found = pooled(measured([maps_of(seed) for seed in range(n)], folder), True, 0).measures
        for name in (*CURVE, *VOXEL):
            low, high = found[name].interval
            assert low <= found[name].value <= high, name
        low, high = found["auprc"].interval
        widths.append(high - low)
    assert widths[1] < widths[0]
