"""The loop over scans on a Dask cluster: the same outcomes in the same order, and a worker may die."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.test_workers import ROWS, Job
from uadtk.core.errors import BackendError, StorageError, UadtkError
from uadtk.core.run import Run
from uadtk.pipeline.each import each

distributed = pytest.importorskip("distributed", reason='Dask is not installed: pip install "uadtk[cluster]"')
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """Two worker processes that a nanny starts again when they die."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        warnings.simplefilter("ignore")
        import dask

        dask.config.set({"distributed.scheduler.allowed-failures": 0})  # starting workers takes longest
        with distributed.LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None) as cluster:
            yield cluster.scheduler_address


def walk(job: Job, scheduler: str) -> tuple[list[Any], list[str]]:
    said = list[str]()
    outcomes = each(ROWS, job, Run(say=said.append, cluster=scheduler), "working")
    return [outcome.value or outcome.error for outcome in outcomes], said


def test_values_come_in_the_order_of_the_rows_and_lines_with_them(scheduler: str) -> None:
    values, said = walk(Job(), scheduler)
    assert values == list("ABCDEF")
    assert [line[0] for line in said] == list("abcdef")


def test_errors_come_back_as_they_are(scheduler: str) -> None:
    values, said = walk(Job("gate"), scheduler)
    assert values[1].one_line() == "b.nii.gz: is a T1"
    assert "b: failed: b.nii.gz: is a T1" in said
    with pytest.raises(StorageError, match="/out: cannot be written"):
        walk(Job("full"), scheduler)


def test_a_worker_that_dies_costs_its_scan_a_retry(scheduler: str, tmp_path: Path) -> None:
    assert walk(Job("killed", tmp_path), scheduler)[0] == list("ABCDEF")
    assert len(list(tmp_path.iterdir())) == 1


def test_a_scan_of_which_every_worker_dies_has_failed(scheduler: str) -> None:
    values, _ = walk(Job("killed"), scheduler)
    assert isinstance(values[1], UadtkError)
    assert values[1].one_line().startswith("b.nii.gz: the workers that did it died")
    assert [value for value in values if isinstance(value, str)] == list("ACDEF")


def test_a_scheduler_that_does_not_answer_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uadtk.pipeline.cluster._WAIT_S", 1)
    with pytest.raises(BackendError, match="no scheduler answers"):
        walk(Job(), "tcp://127.0.0.1:1")


@pytest.mark.parametrize("failures", [1, 2])
def test_workers_that_do_not_start_are_started_once_more(monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
    tries, real = list[int](), distributed.LocalCluster

    def start(**settings: Any) -> Any:
        tries.append(settings["n_workers"])
        if len(tries) <= failures:
            raise RuntimeError("Nanny failed to start.")
        return real(**settings)

    monkeypatch.setattr(distributed, "LocalCluster", start)
    found = each(ROWS, Job(), Run(cluster="local", jobs=2), "working")
    if failures == 1:
        assert len(list(found)) == len(ROWS)
    else:
        with pytest.raises(BackendError, match=r"do not start \(Nanny failed to start"):
            list(found)
    assert tries == [2, 2]
