"""Checkpoints that need no training, made by the commands, and scans for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.commands import Done, call, save_tiny
from tests.scans import patients
from uadtk import checkpoint as checkpoints


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
    path = tmp_path_factory.mktemp("weighted") / "w.safetensors"
    fresh = save_tiny(path)
    fresh.with_point(replace(checkpoints.load(histeq).points[0], scorer=fresh.scorer)).save(path)
    return path


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return patients(tmp_path_factory.mktemp("patients"))


@pytest.fixture(scope="module")
def model(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained scale-space model, calibrated on the two healthy scans of the cohort."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_tiny(path)
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
