"""Each training is an MLflow run named after its checkpoint: options are parameters, epochs are steps of metrics."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run
from mlflow.utils.time import get_current_time_millis

TRAINING = "uadtk.training"  # the tag by which a resumed training finds its run


def log(record: Mapping[str, Any], output: Path, settings: Mapping[str, Any]) -> None:
    client, now = MlflowClient(), get_current_time_millis()
    metrics = [Metric(name, value, now, record["epoch"]) for name, value in record.items() if name != "epoch"]
    client.log_batch(_run(client, output, settings).info.run_id, metrics)


def _run(client: MlflowClient, output: Path, settings: Mapping[str, Any]) -> Run:
    """The run of this training, new at its first epoch; in the experiment that MLFLOW_EXPERIMENT_NAME names."""
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "Default")
    experiment = client.get_experiment_by_name(name)
    place = experiment.experiment_id if experiment else client.create_experiment(name)
    path = os.path.abspath(output)
    training = sha256(os.fsencode(f"{path}\n{settings['cohort']}")).hexdigest()  # a path may hold quotes
    if found := client.search_runs([place], f"tags.`{TRAINING}` = '{training}'", max_results=1):
        return found[0]
    tags = {TRAINING: training, "uadtk.checkpoint": path, "uadtk.cohort": settings["cohort"]}
    run = client.create_run(place, run_name=output.stem, tags=tags)
    client.log_batch(run.info.run_id, params=[Param(key, str(value)) for key, value in _flat(settings)])
    return run


def _flat(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield before + key, value
