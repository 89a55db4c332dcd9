"""Shared by the studies: running uadtk commands, reading what they wrote, and drawing nested sets of patients."""

from __future__ import annotations

import csv
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from uadtk.checkpoint import load
from uadtk.io.cohort import Cohort, Row, read_cohort
from uadtk.training.resume import state_path


def uadtk(*words: str) -> int:
    """Print and run a command. Returns its exit code: 0, or 1 if parts of the work failed, as the output reports."""
    print("+", shlex.join(["uadtk", *words]), file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, "-m", "uadtk", *words], check=False, stdout=sys.stderr)
    if done.returncode not in (0, 1):
        raise SystemExit(done.returncode)
    return done.returncode


def uadtk_says(*words: str) -> str:
    """The same for a command that must succeed; returns what it prints on stdout."""
    print("+", shlex.join(["uadtk", *words]), file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, "-m", "uadtk", *words], check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout


def finished(output: Path) -> bool:
    """Whether there is this checkpoint, and no training of it is paused or interrupted.

    A paused training has written its checkpoint, too; an interrupted one with ``--overwrite`` has left the former one.
    Checkpoints of models that need no training are finished.
    """
    return output.exists() and not state_path(output).exists() and bool(load(output).training.get("finished", True))


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines, delimiter="\t"))


def gliomas(data: Path) -> Cohort:
    """The rows of ``lgg``."""
    return read_cohort(data / "cohort.tsv").where(collection="lgg")


def validation_scans(data: Path) -> Cohort:
    """The validation scans, each patient once: heads with the skull on are the same scans again."""
    rows = read_cohort(data / "cohort.tsv").split("validation")
    return Cohort(tuple(row for row in rows if row.collection != "whole_head"), str(data / "cohort.tsv"))


def drawn(rows: Iterable[Row], k: int) -> set[str]:
    """The first ``k`` subjects in a fixed random order, so that the sets are nested."""
    subjects = sorted({row.subject for row in rows})
    return {subjects[place] for place in np.random.default_rng(0).permutation(len(subjects))[:k]}
