"""`uadtk train --log-to`: the plugins that log, installed from their sources, and one that fails."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.commands import TINY, call
from uadtk import registry
from uadtk.testing import installed

ROOT = Path(__file__).parents[2]
OPTIONS = [f"--{name}={value}" for name, value in {**TINY, "epochs": 2, "batch": 16}.items()]

FAILING = """
from uadtk.plugin import Entry, hookimpl

@hookimpl
def uadtk_loggers():
    return [Entry("down", "failing:log", "A server that is not there.")]

def log(record, output, settings):
    raise OSError("no network")
"""


@pytest.fixture
def loggers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """tensorboard, mlflow and one that fails."""
    for needed in ("tensorboard", "mlflow"):
        pytest.importorskip(needed, reason=f"{needed} is not installed: pip install '.[dev]'")
    monkeypatch.delenv("UADTK_PLUGINS")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "runs").as_uri())
    with ExitStack() as stack:
        for name in ("tensorboard", "mlflow"):
            source = shutil.copytree(ROOT / "plugins" / f"uadtk-{name}" / "src", tmp_path / name)
            stack.enter_context(installed(source, f"uadtk-{name}", {name: f"uadtk_{name}"}))
        (tmp_path / "failing").mkdir()
        (tmp_path / "failing" / "failing.py").write_text(FAILING)
        stack.enter_context(installed(tmp_path / "failing", "failing", {"failing": "failing"}))
        yield tmp_path
    registry.reload()


@pytest.mark.slow
def test_a_training_is_logged_where_asked_and_a_logger_that_fails_costs_a_line(
    loggers: Path, small_cohort: Path
) -> None:
    from mlflow import MlflowClient
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    output = loggers / "m.safetensors"
    to = ("--log-to", "tensorboard", "--log-to", "mlflow", "--log-to", "down")
    train = ("train", "scalespace", small_cohort, "-o", output, *OPTIONS, *to)
    assert call(*train, "--minutes", "1e-6").code == 0  # pauses after an epoch
    done = call(*train)
    assert done.code == 0, done
    assert done.said.count("warning: logger down failed (OSError: no network)") == 1
    epochs = [json.loads(line) for line in (loggers / "m.log.jsonl").read_text().splitlines()]
    assert len(epochs) == 2
    written = EventAccumulator(str(loggers / "m.tensorboard")).Reload().Scalars("validation/loss")
    assert [(e.step, e.value) for e in written] == [(e["epoch"], pytest.approx(e["validation_loss"])) for e in epochs]
    client = MlflowClient()
    (run,) = client.search_runs(["0"])
    history = client.get_metric_history(run.info.run_id, "train_loss")
    assert [(m.step, m.value) for m in history] == [(e["epoch"], e["train_loss"]) for e in epochs]
    assert run.data.params["model.name"] == "scalespace"
    assert run.data.params["schedule.batch"] == "16"


def test_a_logger_that_is_not_there_is_refused_before_the_work(small_cohort: Path, tmp_path: Path) -> None:
    output = tmp_path / "m.safetensors"
    call("train", "scalespace", small_cohort, "-o", output, "--log-to", "wandb").refused(2, "no logger 'wandb'")
    assert not list(tmp_path.iterdir())
