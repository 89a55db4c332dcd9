"""Whatever walks over the scans of a cohort: one that fails costs one line, is tried again, and never becomes a result.

The fault is in finding the brain, which everything does: there deepbet is missing, a plugin breaks, a scan is no scan.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.scans import patients
from uadtk import checkpoint as checkpoints
from uadtk.checkpoint import Checkpoint
from uadtk.core.errors import BackendError, DataError, StorageError, UadtkError
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.spec import Spec
from uadtk.core.thresholder import OperatingPoint
from uadtk.core.volume import Mask, Scan
from uadtk.io.cohort import Cohort, read_cohort
from uadtk.io.read import read_scan
from uadtk.pipeline.archive import segment_cohort
from uadtk.pipeline.evaluate import evaluate
from uadtk.pipeline.score import build_method
from uadtk.pipeline.segment import Rules
from uadtk.pipeline.threshold import calibrate
from uadtk.preparation.brain import find_brain
from uadtk.study import multiverse as universes
from uadtk.study.benchmark import carry_out
from uadtk.study.tasks import Contender, Question, plan
from uadtk.training.pseudo_labels import Trust, label_cohort
from uadtk.training.slices import load_slices

Used = Callable[[Cohort, Path, Run], int]
"""Does the work on the cohort, in or with a folder, and returns how many of its scans were used."""


def histeq() -> Checkpoint:
    """No training and no cleaning: how bright a voxel is in its own brain, and the brightest in a fiftieth of it."""
    bare = checkpoints.new("histeq", {}, Preparation(), cleaners=())
    return bare.with_point(OperatingPoint("p", 0.98, Spec("p98"), "", bare.scorer, (), 0, "", ""))


def segmented(rows: Cohort, folder: Path, run: Run) -> int:
    method, names = build_method(histeq(), run), [row.subject for row in rows]
    point = method.checkpoint.points[0]
    outcomes = list(segment_cohort(list(rows), names, method, point, folder, run, Rules(), overwrite=True))
    done = {path.name.partition("_")[0] for path in folder.glob("*_report.html")}
    assert [row.subject for row in rows] == [outcome.row.subject for outcome in outcomes]
    assert done == {outcome.row.subject for outcome in outcomes if outcome.error is None}
    return len(done)


def calibrated(rows: Cohort, folder: Path, run: Run) -> int:
    point = calibrate(histeq(), rows, Spec("p98"), "p", run)
    assert point.scans + point.failed == len(rows)
    return point.scans


def evaluated(rows: Cohort, folder: Path, run: Run) -> int:
    found = evaluate(histeq(), rows, histeq().points[0], run)
    assert len(found.scans) + len(found.failed) == len(rows)
    return len(found.scans)


def compared(rows: Cohort, folder: Path, run: Run) -> int:
    (line,) = carry_out(plan(Question((Contender("histeq"),)), rows, run), folder, {"cohort": "", "split": ""}, run)
    assert line.evaluation is not None
    return len(line.evaluation["scans"])


def ranked(rows: Cohort, folder: Path, run: Run) -> int:
    universes.multiverse(histeq(), "histeq", "ms", rows, rows, folder, run)
    (path,) = (folder / "multiverse").iterdir()
    return int(json.loads(path.read_text())["patients"])


def prepared(rows: Cohort, folder: Path, run: Run) -> int:
    return load_slices(list(rows), Preparation(), True, run, "scans", folder).scans


def labelled(rows: Cohort, folder: Path, run: Run) -> int:
    method = build_method(histeq(), run)
    return len(label_cohort(list(rows), method, method.checkpoint.points[0], Trust(), folder, run))


USERS: dict[str, Used] = {
    "segment": segmented,
    "threshold": calibrated,
    "evaluate": evaluated,
    "benchmark": compared,
    "multiverse": ranked,
    "slices": prepared,
    "labels": labelled,
}
REMEMBER = ("benchmark", "multiverse", "slices", "labels")
users = pytest.mark.parametrize("used", USERS.values(), ids=USERS)


class Fault:
    """Stands in for ``find_brain``: while there is an ``error`` p3 fails with it. ``met``: whose scans it has seen."""

    def __init__(self, rows: Cohort) -> None:
        self.error: Exception | None = None
        self.met: list[str] = []
        self.failing = {"p3"}
        self.subjects = {read_scan(row.image).voxels.tobytes(): row.subject for row in rows}

    def __call__(self, scan: Scan, given: Mask | None = None, device: str = "cpu") -> tuple[Mask, str]:
        self.met.append(self.subjects[scan.voxels.tobytes()])
        if self.error is not None and self.met[-1] in self.failing:
            raise self.error
        return find_brain(scan, given, device)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Three patients with a lesion each: p2, p3, p4."""
    table = read_cohort(patients(tmp_path_factory.mktemp("patients"))).where(collection="ms")
    return Cohort(tuple(replace(row, split="train", collection=None) for row in table), table.source)


@pytest.fixture
def fault(rows: Cohort, monkeypatch: pytest.MonkeyPatch) -> Fault:
    own = Fault(rows)
    monkeypatch.setattr("uadtk.preparation.find_brain", own)
    for name, few in (("CHAINS", ((0, 0.0),)), ("FLOORS", (8,)), ("RULES", {"p98": Spec("p98")})):
        monkeypatch.setattr(universes, name, few)  # one universe per grid is enough here
    return own


def failures(said: list[str]) -> list[str]:
    return [line for line in said if "failed: " in line]


@users
def test_without_a_fault_every_scan_is_used(used: Used, rows: Cohort, fault: Fault, tmp_path: Path) -> None:
    said: list[str] = []
    assert used(rows, tmp_path / "out", Run(say=said.append)) == 3
    assert set(fault.met) == {"p2", "p3", "p4"}
    assert failures(said) == []


@users
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DataError("no brain", fix="Is this a brain scan?"), "p3.nii.gz: no brain. Is this a brain scan?"),
        (RuntimeError("shapes\ndiffer"), "p3.nii.gz: failed unexpectedly (RuntimeError: shapes differ)"),
    ],
    ids=["expected", "unexpected"],
)
def test_a_scan_that_fails_costs_one_line_each_time_and_is_used_once_its_cause_is_gone(
    used: Used, error: Exception, words: str, rows: Cohort, fault: Fault, tmp_path: Path
) -> None:
    times = 2 if used is ranked else 1  # the multiverse meets these scans twice: to calibrate and to test
    for _ in range(2):
        fault.error, said = error, list[str]()
        fault.met.clear()
        assert used(rows, tmp_path / "out", Run(say=said.append)) == 2
        assert fault.met.count("p3") == times
        assert [line.startswith("p3: failed: ") and words in line for line in failures(said)] == [True] * times
    fault.error = None
    assert used(rows, tmp_path / "out", Run(say=said.append)) == 3
    assert len(failures(said)) == times


@users
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BackendError("the skull is still on and deepbet is not installed"), BackendError),
        (ModuleNotFoundError("No module named 'deepbet'", name="deepbet"), BackendError),
        (StorageError("cannot be written (No space left on device)", "/out"), StorageError),
    ],
    ids=["library", "import", "disk"],
)
def test_what_is_not_about_the_scan_stops_the_run_and_the_same_call_does_it_all(
    used: Used, error: Exception, kind: type[UadtkError], rows: Cohort, fault: Fault, tmp_path: Path
) -> None:
    fault.error, said = error, list[str]()
    with pytest.raises(kind, match=r"deepbet|No space left"):
        used(rows, tmp_path / "out", Run(say=said.append))
    ahead = ["p4"] if used is segmented else []  # which does two at once, and may have begun the next
    assert sorted(fault.met) in (["p2", "p3"], ["p2", "p3", *ahead])
    assert ahead or fault.met == ["p2", "p3"]
    assert failures(said) == []
    fault.error = None
    assert used(rows, tmp_path / "out", Run(say=said.append)) == 3
    assert failures(said) == []


@users
def test_an_interruption_is_passed_on(
    used: Used, rows: Cohort, fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("uadtk.preparation.find_brain", interrupted)
        with pytest.raises(KeyboardInterrupt):
            used(rows, tmp_path / "out", Run())
    assert used(rows, tmp_path / "out", Run()) == 3


@pytest.mark.parametrize("name", REMEMBER)
def test_what_succeeded_is_not_done_again(name: str, rows: Cohort, fault: Fault, tmp_path: Path) -> None:
    """After a failure everything may be: slices lie in one file. Labels are files of their own."""
    fault.error = RuntimeError("shapes differ")
    USERS[name](rows, tmp_path / "out", Run())
    fault.error = None
    fault.met.clear()
    assert USERS[name](rows, tmp_path / "out", Run()) == 3
    if name == "labels":
        assert fault.met == ["p3"]
    fault.met.clear()
    assert USERS[name](rows, tmp_path / "out", Run()) == 3
    assert fault.met == []


def test_slices_that_lack_a_scan_are_used_while_it_fails_without_preparing_the_others(
    rows: Cohort, fault: Fault, tmp_path: Path
) -> None:
    fault.error = RuntimeError("shapes differ")
    first = load_slices(list(rows), Preparation(), True, Run(), "scans", tmp_path)
    fault.met.clear()
    again = load_slices(list(rows), Preparation(), True, Run(), "scans", tmp_path)
    assert fault.met == ["p3"]
    assert first.failed == again.failed == ("p3",)
    np.testing.assert_array_equal(first.image, again.image)
    fault.error = None
    whole = load_slices(list(rows), Preparation(), True, Run(), "scans", tmp_path)
    assert whole.failed == ()
    assert len(whole) > len(first)
    np.testing.assert_array_equal(
        whole.image, load_slices(list(rows), Preparation(), True, Run(), "scans", tmp_path / "elsewhere").image
    )


@pytest.mark.parametrize("name", [name for name in USERS if name != "segment"])  # it has an outcome for each scan
def test_where_no_scan_can_be_used_that_is_the_error(name: str, rows: Cohort, fault: Fault, tmp_path: Path) -> None:
    fault.error = RuntimeError("shapes differ")
    fault.failing, lost = {"p2", "p3", "p4"}, rows
    if name == "benchmark":
        (line,) = carry_out(plan(Question((Contender("histeq"),)), lost, Run()), tmp_path, {}, Run())
        assert "none of 3 scans could be evaluated" in line.problem
        return
    with pytest.raises(DataError, match=r"none of 3 scans could be|no slice to use for scans"):
        USERS[name](lost, tmp_path, Run())
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
