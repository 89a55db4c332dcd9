"""Sixty phantoms by several workers, two of which are killed in the middle: the end must be that of one process.

    python -m benchmarks.hardening.workers --scans 60

Masks, scores, tables and pictures must be equal bit for bit; the report and the manifest hold seconds. Workers are
killed with SIGKILL when a third and when two thirds of the scans are done.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib

from benchmarks.hardening.commands import AFFINE, tiny_brain
from benchmarks.hardening.kills import descendants
from uadtk.io.results import altered, read_folder

WAYS = {"--jobs 2": "--jobs 2", "--cluster local": "--cluster local --jobs 2"}
WORKER = ("uadtk.pipeline.workers", "spawn_main")  # in the command lines of our processes, and of Dask's


def start(words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "uadtk", *words.split()]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file without seconds in it, by name; of scans that are done and whole."""
    states = [state for state in read_folder(folder) if state.status == "done" and not altered(state)]
    named = {name: facts["sha256"] for state in states for name, facts in state.provenance["files"].items()}
    return {name: digest for name, digest in named.items() if not name.endswith("_report.html")}


def killing(command: subprocess.Popen[bytes], folder: Path, scans: int) -> int:
    """Wait for the command, and kill two of its workers on the way; how many were."""
    killed = 0
    while command.poll() is None:
        if killed < 2 and len(list(folder.glob("*_provenance.json"))) >= (killed + 1) * scans // 3:
            own = [child for child in descendants(command.pid) if any(word in _words(child) for word in WORKER)]
            if own:
                os.kill(random.choice(own), signal.SIGKILL)
                killed += 1
                time.sleep(1)  # until its successor is there
        time.sleep(0.02)
    return killed


def _words(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def campaign(folder: Path, scans: int) -> list[tuple[str, int, int, int, int]]:
    """For each way: workers killed, exit code, scans done, files that differ from those of one process."""
    for number in range(scans):
        nib.save(nib.Nifti1Image(tiny_brain(number)[0], AFFINE), folder / f"p{number:03d}.nii.gz")
    rows = "".join(f"p{number:03d}\tp{number:03d}.nii.gz\n" for number in range(scans))
    (folder / "cohort.tsv").write_text("subject\timage\n" + rows)
    (folder / "few.tsv").write_text("subject\timage\n" + "".join(rows.splitlines(True)[:4]))
    common = f"segment {folder}/cohort.tsv --model {folder}/h.safetensors"
    for words in (
        f"threshold --model histeq --healthy {folder}/few.tsv -o {folder}/h.safetensors",
        f"{common} -o {folder}/one --threads 1",
    ):
        assert start(words).wait() == 0, words
    wanted, found = digests(folder / "one"), []
    for place, (name, options) in enumerate(WAYS.items()):
        out = folder / f"several{place}"
        command = start(f"{common} -o {out} --threads 2 {options}")
        killed = killing(command, out, scans)
        own = digests(out)
        differing = len({*wanted.items()} ^ {*own.items()})
        done = sum(state.status == "done" for state in read_folder(out))
        found.append((name, killed, command.returncode, done, differing))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=60)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = campaign(Path(folder), given.scans)
    print("| way | workers killed | exit code | scans done | files that differ |\n|---|---|---|---|---|")
    for row in found:
        print(f"| {' | '.join(map(str, row))} |")
    sys.exit(any(row[1:] != (2, 0, given.scans, 0) for row in found))


if __name__ == "__main__":
    main()
