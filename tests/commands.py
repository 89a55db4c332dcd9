"""The real command line, run inside the test process, and the smallest model that has weights."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

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

    @property
    def said(self) -> list[str]:
        """The lines on stderr, without those of the gate."""
        return besides_amber(self.err.splitlines())

    def refused(self, code: int, *words: str) -> None:
        """One line on stderr, ``uadtk: WHERE: WHAT. FIX``, with these words in it; the documented exit code."""
        assert self.code == code, self
        assert [line.startswith("uadtk: ") for line in self.said] == [True], self
        assert self.err.endswith("\n"), self
        for word in words:
            assert word in self.said[0], (word, self.err)


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


def save_tiny(path: Path) -> checkpoints.Checkpoint:
    """An untrained scale-space model, in that file."""
    fresh = checkpoints.new("scalespace", TINY, Preparation())
    made = replace(fresh, weights=checkpoints.pack(fresh.new_model()), source=str(path))
    made.save(path)
    return made


def besides_amber(lines: Iterable[str]) -> list[str]:
    """Without the lines of the gate, to which the coarse brains of the tests look unusual."""
    return [line for line in lines if ": amber: " not in line]
