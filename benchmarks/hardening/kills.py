"""Runs killed at random moments, repeated until they end, and compared with one that was left alone.

    python -m benchmarks.hardening.kills --kills 300 > benchmarks/hardening/kills.md

Small phantoms are segmented with the shipped model, by one process, by two (``--jobs 2``, where a worker or the whole
group is killed) and, with ``--dask``, on a local cluster. A run gets SIGKILL (in a third of the cases SIGTERM) after a
random time; at each stop every set in the folder must be old, new, or marked as unfinished: files that a manifest
names have the contents it names. The command is then repeated. At the end, all files but the seconds in provenance and
report must equal those of an undisturbed run, bit for bit.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from uadtk.io.results import altered, read_folder

TIMED = ("_provenance.json", "_report.html", "summary.tsv", "index.html")  # seconds, or the folder's name


@dataclass(frozen=True)
class Way:
    """A way to run the command: its options, and whether a worker is killed instead of the command."""

    name: str
    options: tuple[str, ...] = ()
    worker: bool = False


WAYS = (Way("one process"), Way("two processes", ("--jobs", "2")), Way("two, a worker", ("--jobs", "2"), worker=True))
DASK = Way("Dask, a worker", ("--cluster", "local", "--jobs", "2"), worker=True)


def phantoms(folder: Path, count: int) -> Path:
    """``count`` small brains with a bright spot each."""
    folder.mkdir(parents=True)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in (44, 52, 24)), indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    for number in range(count):
        draw = np.random.default_rng(number)
        image = np.where(radius < 0.5, 700.0, 500.0) + 20 * draw.standard_normal(radius.shape)
        image[20:26, 30:36, 10:14] = 1300
        image = np.where(radius < 0.85, image, 0).astype(np.float32)
        nib.save(nib.Nifti1Image(image, np.diag([3.0, 3, 5, 1])), folder / f"p{number:02d}.nii.gz")
    return folder


def start(cohort: Path, out: Path, way: Way, method: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "uadtk", "segment", str(cohort), "-o", str(out), "--threads", "1"]
    words += [*method, *way.options]
    with (out.parent / "log").open("ab") as log:
        return subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)


def campaign(
    kills: int, scans: int, ways: tuple[Way, ...], folder: Path, seed: int = 0, method: tuple[str, ...] = ()
) -> list[str]:
    """A line of the table per way; raises AssertionError for a set that mixes, or another end.

    ``method``: options of every run, in place of the shipped model.
    """
    cohort, alone = phantoms(folder / "cohort", scans), folder / "alone"
    began = time.monotonic()
    assert start(cohort, alone, WAYS[0], method).wait() == 0
    whole_s, wanted = time.monotonic() - began, contents(alone)
    lines = []
    for way in ways:
        draw, done, runs, finished = random.Random(f"{way.name} {seed}"), 0, 0, 0
        out = folder / "out"
        while done < kills:
            process = start(cohort, out, way, method)
            runs += 1
            try:
                process.wait(draw.uniform(0.2, 1.1) * whole_s)
            except subprocess.TimeoutExpired:
                done += _kill(process, way, draw)
            process.wait()
            unmixed(out)
            if process.returncode == 0:
                assert contents(out) == wanted, f"{way.name}: another end after {done} kills"
                finished += 1
                shutil.rmtree(out)
        assert start(cohort, out, way, method).wait() == 0
        assert contents(out) == wanted
        shutil.rmtree(out)
        lines.append(f"| {way.name} | {scans} | {runs} | {done} | {finished + 1} | 0 | 0 |")
    return lines


def _kill(process: subprocess.Popen[bytes], way: Way, draw: random.Random) -> int:
    """Kill the command and all its processes, or one of its workers. Returns the number of kills."""
    number = draw.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
    if not way.worker:
        os.killpg(process.pid, number)
        return 1
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for child in draw.sample(children, min(1, len(children))):
        os.kill(int(child), signal.SIGKILL)
    return min(1, len(children))


def unmixed(out: Path) -> None:
    for state in read_folder(out):
        assert state.status != "done" or not altered(state), f"{state.name} is a mixture"


def contents(out: Path) -> dict[str, bytes]:
    """What must be equal: everything but seconds, the folder's own name, and stages of killed processes."""
    paths = [path for path in out.iterdir() if not path.name.startswith(".")]
    return {
        p.name: p.read_bytes()
        for p in paths
        if not p.name.endswith(TIMED) and p.name not in ("summary.tsv", "index.html")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="for each way to run the command")
    parser.add_argument("--scans", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dask", action="store_true", help="on a local Dask cluster, too")
    given = parser.parse_args()
    ways = (*WAYS, DASK) if given.dask else WAYS
    with tempfile.TemporaryDirectory() as folder:
        lines = campaign(given.kills, given.scans, ways, Path(folder), given.seed)
    print("| way | scans | runs | kills | ends equal | ends not equal | mixed sets |\n|---|---|---|---|---|---|---|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
