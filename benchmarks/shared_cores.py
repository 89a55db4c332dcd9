"""Threads that spin for each other, where another process has some of the cores.

    python benchmarks/shared_cores.py ../shared/data/lgg/TCGA_DU_7299/flair.nii.gz [--repeat 3]

`uadtk segment SCAN` with as many threads as there are cores, of the default model and of small operations (Monte Carlo
samples of the VAE in plugins/uadtk-thesis): wall seconds, the least of a few that take turns, with the machine as it is
and beside a process that keeps one core busy; once with libgomp's own limit of spinning, and once with ours.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WEIGHTS = Path(__file__).parents[1] / "plugins/uadtk-thesis/src/uadtk_thesis/weights"
WORK = {
    "`implant`": (),
    "`vae`, 10 samples": (
        "--model",
        str(WEIGHTS / "vae.safetensors"),
        "--scorer",
        "montecarlo:samples=10",
        "--threshold",
        "0.2",
    ),
}
LIMITS = {"libgomp's": "300000", "ours": None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    print("| | beside | libgomp's limit, s | ours, s | |\n|---|---|---|---|---|")
    for what, words in WORK.items():
        for beside in (0, 1):
            least = dict.fromkeys(LIMITS, float("inf"))
            with busy(beside):
                for _ in range(arguments.repeat):
                    for limit, value in LIMITS.items():
                        least[limit] = min(least[limit], seconds(arguments.scan, words, value))
            theirs, ours = least.values()
            print(f"| {what} | {beside} busy | {theirs:.1f} | {ours:.1f} | {theirs / ours:.1f} |", flush=True)


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Beside so many processes that compute without end."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def seconds(scan: Path, words: tuple[str, ...], limit: str | None) -> float:
    env = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_NUM_THREADS")}
    env |= {"GOMP_SPINCOUNT": limit} if limit else {}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "uadtk", "segment", str(scan), "-o", folder, "--quiet", *words]
        start = time.monotonic()
        subprocess.run(command, env=env, check=True, stderr=subprocess.DEVNULL)
        return time.monotonic() - start


if __name__ == "__main__":
    main()
