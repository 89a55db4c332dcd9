"""MLflow for trainings of uadtk. This module is imported at start-up and must stay light."""

from __future__ import annotations

from collections.abc import Iterable

from uadtk.plugin import Entry, hookimpl


@hookimpl
def uadtk_loggers() -> Iterable[Entry]:
    return [Entry("mlflow", "uadtk_mlflow.log:log", "An MLflow run per training, where MLFLOW_TRACKING_URI says.")]
