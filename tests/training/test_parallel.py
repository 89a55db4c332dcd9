"""Two processes that train one model, joined by gloo, against one process that trains it alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from uadtk import checkpoint as checkpoints
from uadtk.training.parallel import World

ROOT = Path(__file__).parents[2]
SMALL = ["--levels", "2", "--widths", "4", "--latent", "4", "--lowpass", "4"]
SCHEDULE = ["--epochs", "3", "--batch", "7", "--learning-rate", "1e-3", "--threads", "1", "--no-augment"]


def test_alone_everything_is_ours() -> None:
    world = World()
    values = [torch.ones(2)]
    world.total(values)
    assert world.leads
    assert world.share(np.arange(5)).tolist() == [0, 1, 2, 3, 4]
    assert values[0].tolist() == [1, 1]
    assert world.total_of({"loss": 2.5}, "cpu") == {"loss": 2.5}
    assert world.agreed(True)


def test_shares_are_a_partition() -> None:
    shares = [World(rank, 3).share(np.arange(8)).tolist() for rank in range(3)]
    assert shares == [[0, 1, 2], [3, 4, 5], [6, 7]]


def uadtk(*words: object, processes: int = 1) -> subprocess.CompletedProcess[str]:
    start = ["-m", "uadtk"]
    if processes > 1:
        start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *start]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *start, *map(str, words)], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_two_processes_learn_as_one_does(small_cohort: Path, tmp_path: Path) -> None:
    """A batch of 7 slices: 4 for one, 3 for the other. Nothing is random, so that curves are equal up to rounding."""
    logs = []
    for processes in (1, 2):
        output = tmp_path / f"{processes}.safetensors"
        done = uadtk("train", "scalespace", small_cohort, "-o", output, *SMALL, *SCHEDULE, processes=processes)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{output}\n"
        assert done.stderr.count("epoch    1") == 1
        log = (tmp_path / f"{processes}.log.jsonl").read_text().splitlines()
        logs.append([json.loads(line) for line in log])
    assert not list(tmp_path.glob("*.slices"))
    for one, two in zip(*logs, strict=True):
        for key in ("train_loss", "validation_loss"):
            assert two[key] == pytest.approx(one[key], rel=2e-3)
    assert logs[0][-1]["train_loss"] < 0.97 * logs[0][0]["train_loss"]


def test_a_batch_smaller_than_the_processes_is_refused(small_cohort: Path, tmp_path: Path) -> None:
    words = ["train", "ae", small_cohort, "-o", tmp_path / "m.safetensors", "--batch", "1", "--threads", "1"]
    done = uadtk(*words, processes=2)
    assert done.returncode != 0
    assert "a batch of 1 slices cannot be shared out to 1 parts on 2 processes" in done.stderr


@pytest.mark.slow
def test_two_processes_train_all_folds(small_cohort: Path, tmp_path: Path) -> None:
    output = tmp_path / "folds.safetensors"
    words = ["train", "scalespace", small_cohort, "-o", output, *SMALL, *SCHEDULE, "--folds", "2"]
    done = uadtk(*words, processes=2)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{output}\n"
    assert len(checkpoints.load(output).training["folds"]) == 2
