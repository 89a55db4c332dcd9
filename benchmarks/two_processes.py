"""Training in two processes beside one: slices per second, wall time, for as many cores as there are processes.

    python benchmarks/two_processes.py ../shared/data [--models vae implant] [--epochs 3] [--rounds 2]

``uadtk train`` and ``torchrun --nproc-per-node 2 -m uadtk train``, the same batches of 16, one thread per process,
float32, on 20 glioma scans; the fastest epoch of each, in turns. Wall time: the machine must be quiet.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from _shared import gliomas

from uadtk.io.table import write_cohort
from uadtk.training.logs import log_path, read_log

SCANS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--models", nargs="+", default=["vae", "implant"])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = folder / "cohort.tsv"
        cohort = gliomas(arguments.data.resolve())
        rows = (*cohort.split("train").rows[:SCANS], *cohort.split("validation").rows)
        write_cohort(table, replace(cohort, rows=rows))
        print("| model | one process, s per epoch | two | times as fast |\n|---|---|---|---|")
        for model in arguments.models:
            taken = [
                [seconds(model, table, size, arguments.epochs) for size in (1, 2)] for _ in range(arguments.rounds)
            ]
            one, two = map(min, zip(*taken, strict=True))
            print(f"| {model} | {one:.1f} | {two:.1f} | {one / two:.2f} |", flush=True)


def seconds(model: str, table: Path, processes: int, epochs: int) -> float:
    output = table.parent / "model.safetensors"
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    words = ["train", model, table, "-o", output, "--slices", table.parent / "slices", "--overwrite"]
    words += ["--epochs", epochs, "--batch", 16, "--threads", 1]
    subprocess.run([sys.executable, *start, "-m", "uadtk", *map(str, words)], check=True, capture_output=True)
    return min(entry["seconds"] for entry in read_log(log_path(output)))


if __name__ == "__main__":
    main()
