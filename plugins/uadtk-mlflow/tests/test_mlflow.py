"""A run is written to a store of files and read back."""

from pathlib import Path

import pytest
from mlflow import MlflowClient
from uadtk_mlflow.log import log

SETTINGS = {"model": {"name": "ae", "options": {"latent": 4}}, "cohort": "ab"}


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # databases need all of MLflow
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "runs").as_uri())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "brains")
    return MlflowClient()


def test_a_training_is_one_run(client: MlflowClient, tmp_path: Path) -> None:
    for epoch in (1, 2):
        log({"epoch": epoch, "train_loss": 1 / epoch, "seconds": 4}, tmp_path / "Ann's" / "m.safetensors", SETTINGS)
    log({"epoch": 1, "train_loss": 9.0}, tmp_path / "other.safetensors", SETTINGS)
    (experiment,) = (found for found in client.search_experiments() if found.name == "brains")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"m", "other"}
    run = runs["m"]
    assert run.data.params == {"model.name": "ae", "model.options.latent": "4", "cohort": "ab"}
    history = client.get_metric_history(run.info.run_id, "train_loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 1.0), (2, 0.5)]
    assert run.data.metrics["seconds"] == 4
