"""The real command line, run inside the test process, and checkpoints that need no training."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from tests.pipeline.test_evaluate import patients
from uadtk import checkpoint as checkpoints
from uadtk.cli import main
from uadtk.core.preparation import Preparation

# On networks this small, threads that wait for each other cost more than they bring.
one_thread = patch.dict(
    os.environ, {f"UADTK_{command}_THREADS": "1" for command in ("SEGMENT", "THRESHOLD", "TRAIN_SCALESPACE")}
)
TINY = {"levels": 2, "widths": "4", "latent": 4, "lowpass": 4}


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    def refused(self, code: int, *words: str) -> None:
        """One line on stderr, ``uadtk: WHERE: WHAT. FIX``, with these words in it; the documented exit code."""
        assert self.code == code, self
        assert self.err.startswith("uadtk: "), self
        assert self.err.count("\n") == 1, self
        for word in words:
            assert word in self.err, (word, self.err)


def call(*arguments: object) -> Done:
    """Run ``uadtk ARGUMENTS``. Anything but a clean exit is raised, as the traceback a user would see."""
    out, err, threads = StringIO(), StringIO(), torch.get_num_threads()
    try:
        with one_thread, redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
    finally:
        torch.set_num_threads(threads)
    assert isinstance(stop.value.code, int)
    return Done(stop.value.code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def histeq(small_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with the point ``p98``, made by the command a user would use."""
    path = tmp_path_factory.mktemp("histeq") / "h.safetensors"
    done = call("threshold", "--model", "histeq", "--healthy", small_cohort, "--split", "train", "-o", path)
    assert done.code == 0, done
    return path


@pytest.fixture(scope="session")
def weighted(histeq: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained scale-space checkpoint: the smallest thing that has weights."""
    fresh = checkpoints.new("scalespace", TINY, Preparation())
    points = (replace(checkpoints.load(histeq).points[0], scorer=fresh.scorer),)
    path = tmp_path_factory.mktemp("weighted") / "w.safetensors"
    replace(fresh, weights=checkpoints.pack(fresh.new_model()), points=points).save(path)
    return path


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return patients(tmp_path_factory.mktemp("patients"))


@pytest.fixture(scope="module")
def model(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained scale-space model, calibrated on the two healthy scans of the cohort."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    fresh = checkpoints.new("scalespace", TINY, Preparation())
    replace(fresh, weights=checkpoints.pack(fresh.new_model())).save(path)
    done = call("threshold", "--model", path, "--healthy", cohort, "--split", "validation", "--threads", 1)
    assert done.code == 0, done
    return path


@pytest.fixture
def scan(small_cohort: Path) -> Path:
    """The patient with a lesion."""
    return small_cohort.parent / "s4.nii.gz"


@pytest.fixture
def segment(histeq: Path, scan: Path, tmp_path: Path) -> Callable[..., Done]:
    """``uadtk segment`` of the patient into ``tmp_path/out``; arguments are added, and come last."""

    def run(*arguments: object, scans: tuple[Path, ...] = (scan,)) -> Done:
        return call("segment", *scans, "--model", histeq, "-o", tmp_path / "out", *arguments)

    return run
