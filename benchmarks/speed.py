"""Waiting times: ``uadtk --help`` against ``import torch``, and the stages of ``segment``.

    python benchmarks/speed.py [--threads 1]

Start-up times are medians over nine fresh processes of each, interleaved. Stage times are medians over five runs on
phantoms (1 mm and 5 mm slices) with the shipped model, after one run that compiles the kernels. Fails if ``--help``
takes more than a tenth of ``import torch``, or if the other stages of ``segment`` take longer than the network.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from uadtk.checkpoint import open_checkpoint
from uadtk.core.run import Run
from uadtk.io.cohort import Row
from uadtk.io.write import write_nifti
from uadtk.phantom import make
from uadtk.pipeline.score import build_method
from uadtk.pipeline.segment import Rules, segment_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="threads of torch in segment")
    threads = parser.parse_args().threads
    print(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    )
    good = [start_up(), *(stages(slice_mm, threads) for slice_mm in (1.0, 5.0))]
    sys.exit(0 if all(good) else 1)


def start_up() -> bool:
    commands = {
        "uadtk --help": [str(Path(sys.executable).parent / "uadtk"), "--help"],
        "import torch": [sys.executable, "-c", "import torch"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(9):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - start)
    help_s, torch_s = (median(values) for values in seconds.values())
    print(f"uadtk --help {help_s:.3f} s, import torch {torch_s:.3f} s: {torch_s / help_s:.1f} times as long")
    return help_s < torch_s / 10


def stages(slice_mm: float, threads: int) -> bool:
    torch.set_num_threads(threads)
    phantom = make(3, lesions="ms", slice_mm=slice_mm)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.nii.gz"
        write_nifti(path, phantom.scan)
        middle = stage_seconds("scalespace", path, Run())
    network = middle.pop("network")
    shape = " x ".join(map(str, phantom.scan.shape))
    rest = ", ".join(f"{stage} {s:.3f}" for stage, s in middle.items())
    print(
        f"segment {shape}, {threads} thread(s): network {network:.3f} s, all else {sum(middle.values()):.3f} s ({rest})"
    )
    return sum(middle.values()) < network


def stage_seconds(model: str, scan: Path, run: Run, repeats: int = 5) -> dict[str, float]:
    """The median seconds of every stage of ``segment``, after one run that is not timed."""
    checkpoint = open_checkpoint(model)
    method, point = build_method(checkpoint, run), checkpoint.point(None)
    times: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as out:
        for _ in range(1 + repeats):
            run.timings.clear()
            segment_file(Row("scan", scan), "scan", method, point, Path(out) / "out", run, Rules(), overwrite=True)
            times.append(dict(run.timings))
    return {stage: median(t[stage] for t in times[1:]) for stage in times[0]}


if __name__ == "__main__":
    main()
