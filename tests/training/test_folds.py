"""One training per fold and their ensemble: who is held out, mean scores, resuming, calibration on unseen subjects."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import uadtk
from uadtk import checkpoint as checkpoints
from uadtk.core.errors import CheckpointError, DataError, UsageError
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.spec import Spec
from uadtk.io.cohort import Cohort, Row, read_cohort, read_row
from uadtk.pipeline import threshold
from uadtk.pipeline.ensemble import members_of, unseen_parts
from uadtk.pipeline.score import build_method, score_map
from uadtk.pipeline.threshold import calibrate
from uadtk.preparation.gate import united
from uadtk.training import once
from uadtk.training.folds import By, Folds, fold_subjects, train_folds
from uadtk.training.train import Schedule

QUICK = Schedule(epochs=1, batch=16, learning_rate=1e-3)
OPTIONS = {"levels": 2, "widths": "4", "latent": 4, "lowpass": 4, "noise": 0.1}


def fresh() -> checkpoints.Checkpoint:
    return checkpoints.new("scalespace", OPTIONS, Preparation())


def table(*rows: tuple[str, str, str]) -> Cohort:
    """Subject, site, split of scans that are not there."""
    named = ((who, Path(f"{n}.nii"), site or None, split or None) for n, (who, site, split) in enumerate(rows))
    return Cohort(tuple(Row(who, image, site=site, split=split) for who, image, site, split in named), "t.tsv")


@pytest.fixture(autouse=True)
def short_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uadtk.training.batches.LEAST_STEPS", 1)


@pytest.fixture(scope="module")
def cohort(small_cohort: Path) -> Cohort:
    return read_cohort(small_cohort)


@pytest.fixture(scope="module")
def trained(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("folds") / "all.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("uadtk.training.batches.LEAST_STEPS", 1)
        train_folds(fresh(), cohort, QUICK, Folds(3), output, Run())
    return output


def test_every_subject_is_held_out_once_and_folds_are_even() -> None:
    cohort = table(*((f"sub-{n}", "", "") for n in range(11)), ("3", "", ""))
    found = fold_subjects(cohort, Folds(4), seed=0)
    assert sorted(map(len, found)) == [2, 3, 3, 3]
    assert sorted(chain.from_iterable(found)) == sorted(map(str, range(11)))  # 'sub-3' and '3' are one
    assert found == fold_subjects(cohort, Folds(4), seed=0) != fold_subjects(cohort, Folds(4), seed=1)


def test_a_site_is_held_out_as_a_whole() -> None:
    sites = "A" * 6 + "B" * 3 + "C" * 2 + "D"
    cohort = table(*((f"{n}", site, "") for n, site in enumerate(sites)))
    found = fold_subjects(cohort, Folds(2, "site"), seed=0)
    assert {"".join(sorted({sites[int(subject)] for subject in fold})) for fold in found} == {"A", "BCD"}


def test_only_the_training_split_is_divided() -> None:
    cohort = table(("a", "", "train"), ("b", "", "train"), ("v", "", "validation"), ("t", "", "test"))
    assert sorted(fold_subjects(cohort, Folds(2), 0)) == [["a"], ["b"]]


@pytest.mark.parametrize(
    ("rows", "by", "said"),
    [
        ([("a", "", ""), ("a", "", "")], "subject", "1 subject cannot be split into 2 folds"),
        ([("a", "X", ""), ("b", "X", "")], "site", "1 site cannot be split"),
        ([("a", "X", ""), ("b", "", "")], "site", "subject 'b' has no site"),
        ([("a", "X", ""), ("a", "Y", "")], "site", "subject 'a' is in two sites"),
        ([("a", "", ""), ("b", "", "")], "collection", "has no collection"),
    ],
)
def test_folds_that_cannot_be(rows: list[tuple[str, str, str]], by: By, said: str) -> None:
    with pytest.raises(DataError, match=said):
        fold_subjects(table(*rows), Folds(2, by), 0)


def test_members_were_trained_without_their_fold(cohort: Cohort, trained: Path) -> None:
    found = checkpoints.load(trained)
    held = [fold["held"] for fold in found.training["folds"]]
    assert sorted(chain.from_iterable(held)) == ["s0", "s1", "s2"]
    members = members_of(found)
    for number, (member, without) in enumerate(zip(members, held, strict=True), 1):
        alone = checkpoints.load(trained.with_name("all.safetensors.folds") / f"{number}.safetensors")
        assert member.weights == alone.weights
        assert (
            alone.training["cohort_digest"] == Cohort(tuple(r for r in cohort if r.subject not in without), "").digest()
        )
        assert alone.training["scans"] == {"train": 2, "validation": 1}
    assert len({member.weights for member in members}) == 3
    assert found.training["finished"]
    assert found.statistics["scans"] == 2


def test_the_score_is_the_mean_of_the_members(cohort: Cohort, trained: Path) -> None:
    found, (scan, _) = checkpoints.load(trained), read_row(cohort.rows[4], Run())
    maps = [score_map(scan, build_method(replace(one, cleaners=()), Run()), Run()) for one in members_of(found)]
    together = score_map(scan, build_method(replace(found, cleaners=()), Run()), Run())
    for name in ("score", *together.maps):
        parts = [(one.score if name == "score" else one.maps[name]).voxels for one in maps]
        whole = (together.score if name == "score" else together.maps[name]).voxels
        np.testing.assert_allclose(whole, np.mean(parts, axis=0), atol=1e-4)
        assert not np.allclose(whole, parts[0], atol=1e-6)


def test_each_subject_is_calibrated_by_the_member_that_has_not_seen_it(
    cohort: Cohort, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, used = checkpoints.load(trained), dict[str, bytes]()
    real = threshold.score_all

    def spied(rows: Any, method: Any, *rest: Any) -> Any:
        used.update({row.subject: method.checkpoint.weights for row in rows})
        return real(rows, method, *rest)

    monkeypatch.setattr(threshold, "score_all", spied)
    point = calibrate(found, cohort, Spec("p98"), "", Run())
    unseen = {subject: n for n, fold in enumerate(found.training["folds"]) for subject in fold["held"]}
    members = [member.weights for member in members_of(found)]
    assert used == {
        row.subject: members[unseen[row.subject]] if row.subject in unseen else found.weights for row in cohort
    }
    assert (point.scans, point.digest, point.failed) == (5, cohort.digest(), 0)


def test_a_fold_of_which_no_scan_can_be_read_costs_its_scans(cohort: Cohort, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.nii.gz").write_bytes(b"no scan")
    rows = tuple(replace(r, image=tmp_path / "bad.nii.gz") if r.subject == "s1" else r for r in cohort)
    said: list[str] = []
    point = calibrate(checkpoints.load(trained), Cohort(rows, "t"), Spec("p98"), "", Run(say=said.append))
    assert (point.scans, point.failed) == (4, 1)
    assert any("bad.nii.gz" in line for line in said)


def test_a_repeated_command_trains_only_what_is_missing(
    cohort: Cohort, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, trainings = tmp_path / "all.safetensors", list[str]()
    shutil.copytree(trained.with_name("all.safetensors.folds"), tmp_path / "all.safetensors.folds")
    (tmp_path / "all.safetensors.folds" / "2.safetensors").unlink()
    real = once.train

    def counted(checkpoint: Any, part: Any, schedule: Any, goal: Path, *rest: Any) -> Any:
        trainings.append(goal.name)
        return real(checkpoint, part, schedule, goal, *rest)

    monkeypatch.setattr(once, "train", counted)
    train_folds(fresh(), cohort, QUICK, Folds(3), output, Run())
    assert trainings == ["2.safetensors"]
    assert checkpoints.load(output).weights == checkpoints.load(trained).weights
    with pytest.raises(UsageError, match="exists"):
        train_folds(fresh(), cohort, replace(QUICK, batch=8), Folds(3), output, Run())


def test_a_paused_fold_leaves_no_ensemble(cohort: Cohort, tmp_path: Path) -> None:
    output = tmp_path / "all.safetensors"
    member = train_folds(fresh(), cohort, replace(QUICK, epochs=9), Folds(3), output, Run(), minutes=1e-6)
    assert not member.training["finished"]
    assert not output.exists()


def test_weights_of_no_member_are_refused(trained: Path) -> None:
    found = checkpoints.load(trained)
    fewer = replace(found, training={**found.training, "folds": found.training["folds"][:2]})
    with pytest.raises(CheckpointError, match="none of its 2 members"):
        build_method(fewer, Run())


@pytest.mark.parametrize("folds", [7, [7], [{"held": [3]}], [{}], {"a": 1}])
def test_damaged_facts_are_refused_when_they_are_read(folds: Any, tmp_path: Path) -> None:
    replace(fresh(), training={"folds": folds}).save(tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"its header\.training\.folds"):
        checkpoints.load(tmp_path / "a.safetensors")


def test_a_checkpoint_that_is_no_ensemble_is_its_own_member() -> None:
    cohort, alone = table(("a", "", ""), ("b", "", "")), fresh()
    assert members_of(alone) == (alone,)
    assert unseen_parts(alone, cohort) == [(alone, cohort)]


def test_statistics_of_members_together() -> None:
    one = {
        "scans": 3,
        "contrasts": {"FLAIR": 3},
        "columns": [],
        "numbers": {"a": [0.0, 1.0, 2.0, 3.0, 4.0]},
    }
    two = {**one, "scans": 4, "contrasts": {"T2": 1}, "numbers": {"a": [1.0, 2.0, 3.0, 4.0, 5.0]}}
    found = united([one, two, {}])
    assert (found["scans"], found["contrasts"]) == (4, {"FLAIR": 3, "T2": 1})
    assert found["numbers"] == {"a": [0.0, 1.5, 2.5, 3.5, 5.0]}
    assert united([{}, {}]) == {}


def test_the_python_interface_trains_and_uses_an_ensemble(small_cohort: Path, cohort: Cohort, tmp_path: Path) -> None:
    output = tmp_path / "all.safetensors"
    quick: dict[str, Any] = {"epochs": 1, "batch": 16, "threads": 1, "device": "cpu", **OPTIONS}
    with pytest.raises(UsageError, match="--folds"):
        uadtk.train("scalespace", small_cohort, output, fold_by="site", **quick)
    uadtk.train("scalespace", small_cohort, output, folds=2, **quick)
    model = uadtk.open(output, device="cpu", threads=1)
    model.threshold(small_cohort, split="train")
    model.save(output, overwrite=True)
    result = uadtk.open(output, device="cpu", threads=1).segment(cohort.rows[4].image, force=True)
    assert result.findings
