"""The grid of a benchmark: its rows, their numbers, what is done again and what is not."""

from __future__ import annotations

import io
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from tests.commands import TINY, besides_amber, save_tiny
from tests.scans import SMALL_AFFINE, patients
from uadtk import checkpoint as checkpoints
from uadtk.checkpoint import Checkpoint
from uadtk.core.errors import CheckpointError, DataError, UsageError
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.spec import Spec, parse_all
from uadtk.io.cohort import COLUMNS, Cohort, read_cohort
from uadtk.metrics.compare import paired_permutation
from uadtk.metrics.study import by_patient
from uadtk.pipeline.evaluate import evaluate
from uadtk.pipeline.threshold import calibrate
from uadtk.report.table import Line
from uadtk.study import benchmark
from uadtk.study.benchmark import carry_out, pairs_of
from uadtk.study.receipt import read_receipt, reproduce
from uadtk.study.tasks import Contender, Question, Task, plan

pytestmark = pytest.mark.slow  # whole benchmarks


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return read_cohort(patients(tmp_path_factory.mktemp("patients")))


@pytest.fixture(scope="module")
def tiny(table: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained scale-space model with a point for its residual."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.safetensors"
    fresh = save_tiny(path)
    fresh.with_point(calibrate(fresh, table.split("validation"), Spec("p98"), "p98", Run())).save(path)
    return path


@pytest.fixture(scope="module")
def asked(tiny: Path) -> Question:
    scorers = parse_all(["residual", "residual:polarity=absolute", "own"])
    return question(tiny, scorers=scorers, collections=("ms", "empty"), split="test")


@pytest.fixture(scope="module")
def tasks(asked: Question, table: Cohort) -> list[Task]:
    return plan(asked, table, Run())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("benchmark")


@pytest.fixture(scope="module")
def lines(tasks: list[Task], table: Cohort, folder: Path) -> list[Line]:
    return list(carry_out(tasks, folder, where(table), Run()))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The (model, scorer) of every evaluation that is done from here on."""
    done: list[tuple[str, str]] = []

    def measure(checkpoint: Checkpoint, *rest: Any) -> Any:
        done.append((checkpoint.model, str(checkpoint.scorer)))
        return evaluate(checkpoint, *rest)

    monkeypatch.setattr(benchmark, "evaluate", measure)
    return done


def question(*models: object, **more: Any) -> Question:
    return Question(tuple(Contender.parse(str(model)) for model in models), **more)


def where(table: Cohort) -> dict[str, str]:
    return {"cohort": table.source, "split": "test"}


def copied(table: Cohort, to: Path) -> Cohort:
    shutil.copytree(Path(table.source).parent, to)
    return read_cohort(to / "cohort.tsv")


def same_but_for_time(line: Line) -> Line:
    evaluation = json.loads(json.dumps(line.evaluation)) if line.evaluation else None
    for part in [evaluation["measures"], *evaluation["scans"]] if evaluation else []:
        part.pop("seconds")
        part.pop("peak_mb")
    return replace(line, evaluation=evaluation)


def test_every_scorer_and_collection_is_a_row_below_its_baseline(lines: list[Line]) -> None:
    assert [(line.collection, line.architecture, str(line.scorer)) for line in lines] == [
        (collection, *method)
        for collection in ("ms", "empty")
        for method in (
            ("histeq", "own"),
            ("scalespace", "residual"),
            ("scalespace", "residual:polarity=absolute"),
            ("scalespace", "own"),
        )
    ]
    assert len({line.receipt for line in lines if line.receipt}) == 6


def test_a_scorer_that_the_model_cannot_serve_is_a_row_that_says_so(lines: list[Line]) -> None:
    row = lines[3]
    assert "scorer 'own' needs score, which model 'scalespace' does not provide" in row.problem
    assert (row.evaluation, row.receipt, row.paired) == (None, "", {})


def test_a_rows_numbers_are_those_of_evaluate(lines: list[Line], tiny: Path, table: Cohort) -> None:
    checkpoint = checkpoints.load(tiny)
    rows = table.split("test").where(collection="ms")
    expected = json.loads(json.dumps(evaluate(checkpoint, rows, checkpoint.point("p98"), Run()).to_json()))
    found = lines[1].evaluation
    for name in ("auprc", "auroc_volume", "dice", "dice_sd", "chi_squared", "lesion_recall"):
        assert found["measures"][name] == expected["measures"][name]
    assert found["point"]["threshold"] == checkpoint.points[0].threshold


def test_other_scores_and_the_baseline_get_their_point_from_the_same_scans(
    lines: list[Line], tiny: Path, table: Cohort
) -> None:
    checkpoint = replace(checkpoints.load(tiny), scorer=Spec.parse("residual:polarity=absolute"))
    bare = checkpoints.new("histeq", {}, checkpoint.preparation, cleaners=checkpoint.cleaners)
    for line, method in ((lines[2], checkpoint), (lines[0], bare)):
        point = calibrate(method, table.split("validation"), Spec("p98"), "p98", Run())
        assert line.evaluation["point"]["threshold"] == point.threshold
        assert line.evaluation["measures"]["dice"]["value"] is not None
    assert lines[0].evaluation["point"]["threshold"] != lines[1].evaluation["point"]["threshold"]


def test_collections_share_what_was_calibrated(
    tasks: list[Task], table: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrated = []

    def count(checkpoint: Checkpoint, *rest: Any) -> Any:
        calibrated.append(str(checkpoint.scorer))
        return calibrate(checkpoint, *rest)

    monkeypatch.setattr(benchmark, "calibrate", count)
    list(carry_out(tasks, tmp_path, where(table), Run()))
    assert calibrated == ["own", "residual:polarity=absolute"]


def test_p_is_of_the_values_per_patient_beside_histeq(lines: list[Line]) -> None:
    assert lines[0].paired == {}
    for name in ("dice", "auprc"):
        own, bare = (by_patient(line.evaluation["scans"], name) for line in lines[1::-1])
        differences = np.array([own[subject] - bare[subject] for subject in own])
        assert lines[1].paired[name] == (3, differences.mean(), paired_permutation(differences))
        assert differences.any()
    pairs, _, p = lines[5].paired["dice"]  # one patient, without lesion
    assert pairs == 1
    assert math.isnan(p)
    assert "auprc" not in lines[5].paired


def test_a_patients_scans_are_averaged_and_what_has_no_value_is_left_out() -> None:
    values = [("a", 0.2), ("b", None), ("a", 0.4), ("c", 1.0)]
    scans = [{"subject": subject, "dice": value} for subject, value in values]
    assert by_patient(scans, "dice") == {"a": pytest.approx(0.3), "c": 1.0}


def test_a_killed_benchmark_goes_on_with_the_rows_that_are_missing(
    tasks: list[Task], lines: list[Line], table: Cohort, tmp_path: Path, measured: list[tuple[str, str]]
) -> None:
    walk: Any = carry_out(tasks, tmp_path, where(table), Run())  # a generator: it can be closed
    begun = [next(walk), next(walk)]
    walk.close()
    (tmp_path / "rows" / f"{begun[0].receipt}.json").write_text("{")  # as if the disk had lost it
    measured.clear()
    said: list[str] = []
    again = list(carry_out(tasks, tmp_path, where(table), Run(say=said.append)))
    assert len(measured) == 5  # of six: the second was done
    assert said.count("measured before") == 1
    assert sum("measured again: " in line and "is not a receipt" in line for line in said) == 1
    assert list(map(same_but_for_time, again)) == list(map(same_but_for_time, lines))
    measured.clear()
    assert [line.evaluation for line in carry_out(tasks, tmp_path, where(table), Run())] == [
        line.evaluation for line in again
    ]
    assert measured == []


def test_only_what_a_change_concerns_is_done_again(
    asked: Question, table: Cohort, tmp_path: Path, measured: list[tuple[str, str]]
) -> None:
    asked = replace(asked, scorers=(Spec("residual"),))
    own = copied(table, tmp_path / "data")

    def done() -> int:
        measured.clear()
        list(carry_out(plan(asked, own, Run()), tmp_path / "out", where(own), Run()))
        return len(measured)

    assert done() == 4
    assert done() == 0
    mask = tmp_path / "data" / "p3_lesion.nii.gz"
    lesion = np.asarray(nib.load(mask).dataobj).copy()
    nib.save(nib.Nifti1Image(np.roll(lesion, 1, axis=0), SMALL_AFFINE), mask)
    assert done() == 2  # the two rows of 'ms'
    image = tmp_path / "data" / "p0.nii.gz"
    voxels = np.asarray(nib.load(image).dataobj)
    nib.save(nib.Nifti1Image(np.where(voxels > 600, voxels * 1.1, voxels).astype(np.float32), SMALL_AFFINE), image)
    run = Run()
    said: list[str] = []
    run.say = said.append
    plan(asked, own, run)
    assert any("histeq has no operating point" in line for line in said)  # its scans are no longer those


def test_a_row_that_lacks_a_scan_or_a_calibration_scan_is_measured_again(
    tiny: Path, table: Cohort, tmp_path: Path, measured: list[tuple[str, str]]
) -> None:
    """p4 is tested and p1 calibrates the baseline; their files come back as they were."""
    own = copied(table, tmp_path / "data")
    files = {name: tmp_path / "data" / f"{name}.nii.gz" for name in ("p1", "p4")}
    contents = {name: path.read_bytes() for name, path in files.items()}
    tasks = plan(question(tiny, collections=("ms",), split="test"), own, Run())

    def done() -> tuple[list[str], list[int], list[str]]:
        measured.clear()
        said: list[str] = []
        lines = list(carry_out(tasks, tmp_path / "out", where(own), Run(say=said.append)))
        scans = [len(line.evaluation["scans"]) for line in lines if line.evaluation]
        return [model for model, _ in measured], scans, [line for line in said if line.startswith("measured")]

    for name, again in (("p4", ["histeq", "scalespace"]), ("p1", ["histeq"])):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        files[name].write_bytes(b"no image")
        scans = [2, 2] if name == "p4" else [3, 3]
        assert done() == (["histeq", "scalespace"], scans, [])
        told = {"histeq": "measured again: 1 scans had failed", "scalespace": "measured before"}
        lines = [told["histeq" if model in again else "scalespace"] for model in ("histeq", "scalespace")]
        assert done() == (again, scans, lines)
        files[name].write_bytes(contents[name])
        assert done() == (again, [3, 3], lines)
        assert done() == ([], [3, 3], ["measured before"] * 2)


def test_a_point_that_came_with_its_checkpoint_is_not_calibrated_again(
    tiny: Path, table: Cohort, tmp_path: Path, measured: list[tuple[str, str]]
) -> None:
    """However many scans failed when it was: that does not change any more."""
    checkpoint = checkpoints.load(tiny)
    path = tmp_path / "tiny.safetensors"
    replace(checkpoint, points=(replace(checkpoint.points[0], failed=3),)).save(path)
    tasks = plan(question(path, collections=("ms",), split="test"), table, Run())
    for models in (["histeq", "scalespace"], []):
        measured.clear()
        list(carry_out(tasks, tmp_path / "out", where(table), Run()))
        assert [model for model, _ in measured] == models


def test_the_order_of_the_grid_changes_no_row(tasks: list[Task], asked: Question, table: Cohort) -> None:
    other = replace(asked, scorers=asked.scorers[::-1], collections=("empty", "ms"), contenders=asked.contenders * 2)
    assert {task.digest for task in plan(other, table, Run())} == {task.digest for task in tasks}
    assert len(plan(other, table, Run())) == len(tasks)


def test_whatever_the_number_depends_on_is_in_the_key(asked: Question, tasks: list[Task], table: Cohort) -> None:
    digests = {task.digest for task in tasks if task.digest}
    for changed in (replace(asked, grid="model"), replace(asked, chains=(parse_all(["median:size=3"]),))):
        assert not digests & {task.digest for task in plan(changed, table, Run()) if task.digest}
    seeded = plan(asked, table, Run(seed=1))
    assert not digests & {task.digest for task in seeded if task.digest}


def test_a_row_that_fails_is_said_and_the_others_go_on(asked: Question, table: Cohort, tmp_path: Path) -> None:
    asked = replace(asked, scorers=(), collections=("unmarked", "ms"))
    said: list[str] = []
    found = list(carry_out(plan(asked, table, Run()), tmp_path, where(table), Run(say=said.append)))
    assert [bool(line.problem) for line in found] == [True, True, False, False]
    assert found[0].problem.startswith("failed: ")
    assert "no scan has a lesion mask or is known to be healthy" in found[0].problem
    assert found[0].problem in said


def test_all_collections_are_taken_where_none_is_named(asked: Question, table: Cohort) -> None:
    found = plan(replace(asked, collections=(), scorers=()), table, Run())
    assert list(dict.fromkeys(task.collection for task in found)) == ["ms", "empty", "healthy", "unmarked"]
    bare = Cohort(tuple(replace(row, collection=None) for row in table), table.source)
    assert [task.collection for task in plan(replace(asked, collections=(), scorers=()), bare, Run())] == ["", ""]


def test_models_that_are_cleaned_differently_have_baselines_of_their_own(
    tiny: Path, table: Cohort, tmp_path: Path
) -> None:
    other = tmp_path / "bare.safetensors"
    replace(checkpoints.load(tiny), cleaners=(), points=()).save(other)
    one, two, own, bare = plan(question(tiny, other, collections=("ms",)), table, Run())
    assert [task.model for task in (one, two)] == ["histeq as tiny", "histeq as bare"]
    assert (own.beside, bare.beside) == (one.digest, two.digest)
    assert (two.key["cleaners"], two.rule, bare.rule) == ([], None, None)
    same = plan(question(tiny, other, chains=((),), collections=("ms",)), table, Run())
    assert len({task.beside for task in same if task.beside}) == 2  # only one of them has a point


def test_without_a_point_rows_have_no_dice(table: Cohort, tmp_path: Path) -> None:
    tasks = plan(question("histeq", collections=("ms",)), table, Run())
    assert [task.model for task in tasks] == ["histeq"]  # it is its own baseline
    (line,) = carry_out(tasks, tmp_path, where(table), Run())
    assert "dice" not in line.evaluation["measures"]


def test_what_is_wrong_with_the_grid_is_said_before_the_work(asked: Question, table: Cohort, tmp_path: Path) -> None:
    for changed, kind, words in (
        (replace(asked, point="p97"), UsageError, "no operating point 'p97'"),
        (question("histeq", point="p98"), UsageError, "has no operating point"),
        (replace(asked, scorers=(Spec("residul"),)), UsageError, "residual"),
        (replace(asked, scorers=(Spec.parse("residual:polarity=up"),)), UsageError, "polarity"),
        (replace(asked, collections=("lgg",)), DataError, "no scans with collection 'lgg'"),
        (replace(asked, split="holdout"), DataError, "no scans in split 'holdout'"),
        (replace(asked, split="validation", collections=()), DataError, "no scan has a lesion mask"),
        (question(tmp_path / "none.safetensors"), CheckpointError, "none.safetensors"),
    ):
        with pytest.raises(kind, match=words):
            plan(changed, table, Run())


# Receipts ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def again(lines: list[Line], folder: Path) -> Callable[..., list[str]]:
    """``reproduce`` of the row at a place in the table, with its receipt changed before."""

    def run(place: int, change: Callable[[Any], None] = lambda _: None, **moved: str) -> list[str]:
        record = read_receipt(folder / "rows" / f"{lines[place].receipt}.json")
        change(record)
        return reproduce(record, Run(), **moved)

    return run


@pytest.mark.parametrize("place", [0, 1, 2, 5])
def test_a_receipt_gives_the_same_numbers_again(again: Callable[..., list[str]], place: int) -> None:
    assert again(place) == []


def test_each_number_that_differs_is_a_line(again: Callable[..., list[str]]) -> None:
    def change(record: Any) -> None:
        record["evaluation"]["measures"]["auprc"]["value"] *= 1 + 1e-5
        record["evaluation"]["measures"]["dice"]["interval"][1] -= 0.01
        record["evaluation"]["measures"]["auroc"]["value"] *= 1 + 1e-8  # the last digits of another processor
        record["evaluation"]["measures"]["seconds"]["value"] = 99
        record["evaluation"]["scans"][2]["components"] += 1
        record["evaluation"]["scans"][0]["seconds"] = 99

    told = again(1, change)
    assert [line.partition(":")[0] for line in told] == [
        "scan.3 p4.components",
        "measure.auprc.value",
        "measure.dice.interval[1]",
    ]
    assert all(" in the receipt, now " in line for line in told)


def test_a_threshold_that_was_calibrated_is_found_again_and_compared(again: Callable[..., list[str]]) -> None:
    def change(record: Any) -> None:
        record["evaluation"]["point"]["threshold"] *= 1.01

    (told,) = again(2, change)
    assert told.startswith("threshold: ")


def test_other_files_than_the_receipts_are_refused_by_name(
    again: Callable[..., list[str]], tiny: Path, table: Cohort, tmp_path: Path
) -> None:
    moved = copied(table, tmp_path / "moved")
    shutil.copy(tiny, tmp_path / "moved.safetensors")
    assert again(1, cohort=moved.source, model=str(tmp_path / "moved.safetensors")) == []
    fresh = checkpoints.new("scalespace", {**TINY, "latent": 5}, Preparation())
    replace(fresh, weights=checkpoints.pack(fresh.new_model())).save(tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"other\.safetensors: is not the checkpoint of the receipt"):
        again(1, model=str(tmp_path / "other.safetensors"))
    shutil.copy(tmp_path / "moved" / "p1.nii.gz", tmp_path / "moved" / "p0.nii.gz")
    assert again(1, cohort=moved.source) == []  # its point was given
    with pytest.raises(DataError, match="lacks the scans of the receipt's calibration"):
        again(0, cohort=moved.source)
    shutil.copy(tmp_path / "moved" / "p3_lesion.nii.gz", tmp_path / "moved" / "p2_lesion.nii.gz")
    shutil.copy(tmp_path / "moved" / "p3.nii.gz", tmp_path / "moved" / "p2.nii.gz")
    with pytest.raises(DataError, match=r"moved/cohort\.tsv: its scans are not those of the receipt"):
        again(1, cohort=moved.source)


def test_other_versions_are_said(lines: list[Line], folder: Path) -> None:
    record = read_receipt(folder / "rows" / f"{lines[0].receipt}.json")
    now = record["key"]["versions"]["numpy"]
    record["key"]["versions"]["numpy"] = "1.0"
    said: list[str] = []
    assert reproduce(record, Run(say=said.append)) == []
    assert besides_amber(said) == [f"numpy is {now}, the receipt was made with 1.0"]


def test_a_file_that_is_no_receipt_is_refused(lines: list[Line], folder: Path, tmp_path: Path) -> None:
    good = json.loads((folder / "rows" / f"{lines[0].receipt}.json").read_text())
    for text, words in (
        ("{", "is not a receipt"),
        ("[1]", "is not a receipt"),
        ("{}", "is not a receipt"),
        (json.dumps({**good, "format": 1}), "is a receipt of format 1, this uadtk reads 3"),
        (json.dumps({**good, "key": {**good["key"], "seed": 7}}), "is damaged"),
        (json.dumps({name: good[name] for name in ("format", "digest", "key")}), "is damaged"),
    ):
        (tmp_path / "r.json").write_text(text)
        with pytest.raises(DataError, match=words):
            read_receipt(tmp_path / "r.json")
    with pytest.raises(DataError, match="cannot be read"):
        read_receipt(tmp_path / "none.json")


# Chains, strategies, collections together --------------------------------------------------------------------------


def test_every_chain_of_cleaners_has_rows_and_a_baseline_of_its_own(asked: Question, table: Cohort) -> None:
    chains = ((), parse_all(["median:size=3"]))
    tasks = plan(replace(asked, scorers=(Spec("residual"),), collections=("ms",), chains=chains), table, Run())
    assert sorted((task.key["model"]["name"], tuple(task.key["cleaners"])) for task in tasks) == [
        ("histeq", ()),
        ("histeq", ("median:size=3",)),
        ("scalespace", ()),
        ("scalespace", ("median:size=3",)),
    ]
    for task in tasks:
        if task.beside:
            (own,) = [other for other in tasks if other.digest == task.beside]
            assert own.key["cleaners"] == task.key["cleaners"]
    with pytest.raises(UsageError, match="mediam"):
        plan(replace(asked, chains=((Spec("mediam"),),)), table, Run())


def test_a_strategy_gives_every_row_a_point_from_its_own_collection(tiny: Path, table: Cohort, tmp_path: Path) -> None:
    rows = [replace(row, split="validation") if row.subject in ("p2", "p5") else row for row in table]
    own = Cohort(tuple(rows), table.source)
    asked = question(tiny, collections=("ms", "ms+empty", "healthy"), strategy=Spec.parse("p98:percentile=90"))
    tasks: Any = plan(asked, own, Run())
    taught = {task.collection: [row.subject for row in task.rule.rows] for task in tasks if task.beside}
    assert taught == {"ms": ["p2"], "ms+empty": ["p2", "p5"], "healthy": ["p0", "p1"]}
    again = {task.collection: [row.subject for row in task.rows] for task in tasks if task.beside}
    assert again["ms+empty"] == ["p2", "p3", "p4", "p5"]
    lines = list(carry_out(tasks, tmp_path / "out", where(own), Run()))
    line = next(line for line in lines if line.architecture == "scalespace")
    point = calibrate(checkpoints.load(tiny), tasks[0].rule.rows, Spec.parse("p98:percentile=90"), "p98", Run())
    assert (line.collection, line.evaluation["point"]["threshold"]) == ("ms", point.threshold)
    folder = Path(own.source).parent
    listed = [[getattr(row, name) or "" for name in COLUMNS[:8]] for row in own]
    moved = folder / "strategy.tsv"
    moved.write_text("\n".join("\t".join(map(str, row)) for row in [COLUMNS[:8], *listed]) + "\n")
    for each in lines:
        record = read_receipt(tmp_path / "out" / "rows" / f"{each.receipt}.json")
        record["where"]["split"] = ""
        assert reproduce(record, Run(), cohort=str(moved)) == []


def test_one_collection_may_give_its_point_to_all(tiny: Path, table: Cohort) -> None:
    """As in the study, which carries the point of one MS set to every set."""
    rows = [replace(row, split="validation") if row.subject in ("p2", "p5") else row for row in table]
    own = Cohort(tuple(rows), table.source)
    asked = question(tiny, collections=("ms", "empty", "healthy"), strategy=Spec("p98"), calibrate_on="ms")
    tasks: Any = plan(asked, own, Run())
    assert {task.collection: [row.subject for row in task.rule.rows] for task in tasks} == {
        name: ["p2"] for name in ("ms", "empty", "healthy")
    }
    with pytest.raises(DataError, match="mss"):
        plan(replace(asked, calibrate_on="mss"), own, Run())


def test_a_strategy_that_cannot_be_is_refused_before_the_work(tiny: Path, table: Cohort) -> None:
    asked = question(tiny, collections=("ms",))
    for changed, kind, words in (
        (replace(asked, strategy=Spec("p9")), UsageError, "p98"),
        (replace(asked, strategy=Spec("validation")), UsageError, "'validation' needs lesion masks"),
        (replace(asked, strategy=Spec("healthy-fp")), UsageError, "needs 11 subjects, not 2"),
        (replace(asked, strategy=Spec("p98"), calibration="none"), DataError, "no scans in split 'none'"),
        (replace(asked, collections=("ms+lgg",)), DataError, "no scans with collection 'lgg'"),
    ):
        with pytest.raises(kind, match=words):
            plan(changed, table, Run())


def test_a_model_may_bring_its_own_scorers(tiny: Path, table: Cohort) -> None:
    models = (f"{tiny}@residual@multiscale", "histeq")
    tasks = plan(question(*models, scorers=(Spec("own"),), collections=("ms",), split="test"), table, Run())
    assert [(task.model, task.key["scorer"]) for task in tasks if task.beside] == [
        (str(tiny), "residual"),
        (str(tiny), "multiscale"),
    ]
    with pytest.raises(UsageError, match="residual"):
        plan(question(f"{tiny}@residul"), table, Run())


# Pictures and pairs -------------------------------------------------------------------------------------------------


def test_every_row_has_a_strip_of_the_same_scans_below_a_head(lines: list[Line], folder: Path) -> None:
    pictures = folder / "pictures"
    rows = {line.receipt for line in lines if line.receipt}
    assert {path.stem for path in pictures.iterdir()} == {*rows, "ms", "empty"}
    widths = {path.stem: Image.open(io.BytesIO(path.read_bytes())).width for path in pictures.iterdir()}
    for line in lines:
        if line.receipt:
            assert widths[line.receipt] == widths[line.collection]
    assert widths["ms"] == 3 * widths["empty"]


def test_every_two_rows_of_a_collection_are_compared(lines: list[Line]) -> None:
    found = pairs_of(lines, 0)
    assert [(pair.collection, pair.measure) for pair in found] == [
        *[("ms", "dice")] * 3,
        *[("ms", "auprc")] * 3,
        *[("empty", "dice")] * 3,
    ]  # three rows each; nobody has an AUPRC without lesions
    first = found[0]
    assert (first.one, first.other) == ("histeq", "tiny residual")
    assert first.difference == -lines[1].paired["dice"][1]
    assert first.p == lines[1].paired["dice"][2]
    assert first.p_holm >= first.p
