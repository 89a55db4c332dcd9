"""Where the seconds of one scan go: every stage of ``segment`` beside the least it could take on this machine.

    OMP_NUM_THREADS=1 python benchmarks/one_scan.py [--model implant] [--scan FLAIR.nii.gz] [--repeat 3]

Processor seconds on one thread, so that other load on the machine disturbs little: medians after a first run, which
loads kernels and libraries and has a column of its own. The scan is the demo phantom, slices of 1 mm, if none is named.
The limits are measured in the same run: of the network, its multiplications at the speed of a large matrix product in
its own arithmetic; of reading, unpacking the file; of writing, packing what was written; of any other stage, copying
the scan as float32 once. Then the operators of the network, the functions of the whole by their own seconds, and a
process of the command: what it takes besides the stages, beside ``import torch``, and its peak of memory.
"""

from __future__ import annotations

import argparse
import cProfile
import gzip
import os
import pstats
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

import uadtk.core.run
from uadtk.checkpoint import open_checkpoint
from uadtk.core.model import traits
from uadtk.core.run import Run
from uadtk.io import deflate
from uadtk.io.cohort import Row
from uadtk.io.read import read_scan
from uadtk.pipeline import score as scoring
from uadtk.pipeline.segment import Rules, segment_file
from uadtk.preparation import Prepared, contrast, prepare

DEMO = Path(__file__).parent.parent / "uadtk" / "phantom" / "demo" / "FLAIR.nii.gz"
SIDE = 2048  # of the matrices
Function = tuple[str, int, str]  # file, line, name
SHOWN = 16  # operators, and functions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="implant")
    parser.add_argument("--scan", type=Path, default=DEMO)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    uadtk.core.run.perf_counter = time.process_time  # type: ignore[assignment, attr-defined]
    checkpoint, run = open_checkpoint(arguments.model), Run()
    method, point = scoring.build_method(checkpoint, run), checkpoint.point(None)
    with tempfile.TemporaryDirectory() as folder:

        def work() -> None:
            contrast._MEASURED.clear()  # of the scan before, which is the same
            row = Row("scan", arguments.scan)
            segment_file(row, "scan", method, point, Path(folder) / "out", run, Rules(), overwrite=True)

        first, stages = stages_of(work, run, arguments.repeat)
        scan = read_scan(arguments.scan)
        prepared = prepare(scan, checkpoint.preparation, Run())
        limits = {stage: copying(scan.voxels) for stage in stages}
        limits |= {"read": unpacking(arguments.scan), "write": packing(Path(folder) / "out")}
        operations, precision = network_operations(prepared, method), traits(method.models[0]).arithmetic
        speed = {kind: matmul_speed(getattr(torch, kind)) for kind in ("float32", "bfloat16")}
        limits["network"] = operations / speed[precision]
        print(f"{arguments.model}, {' x '.join(map(str, scan.shape))}, {len(prepared.image)} slices, one thread")
        print(f"matrix product: {', '.join(f'{kind} {s / 1e9:.0f} GFLOP/s' for kind, s in speed.items())}")
        print(f"network: {operations / 1e9:.0f} GFLOP in {precision}\n")
        for line in table(first, stages, limits):
            print(line)
        print("\n| operator of the network | share of its seconds |\n|---|---|")
        for name, share in operators(prepared, method):
            print(f"| {name} | {share:.0%} |")
        print("\n| function | for | of the network's seconds | calls |\n|---|---|---|---|")
        for name, caller, taken, calls in functions(work):
            print(f"| {name} | {caller} | {taken / stages['network']:.0%} | {calls} |")
        command = [
            "segment",
            str(arguments.scan),
            "--model",
            arguments.model,
            "-o",
            f"{folder}/once",
            "--threads",
            "1",
            "--overwrite",
        ]
        torch_s, _ = process("-c", "import torch")
        whole_s, peak = process("-m", "uadtk", *command)
        besides = whole_s - sum(first.values())
        print(f"\nbesides the stages of a first run: {besides:.2f} s; import torch: {torch_s:.2f} s")
        print(f"peak of memory: {peak / 2**20:.2f} GB")


def stages_of(work: Callable[[], None], run: Run, repeat: int) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of the first run, and medians of the others."""
    times = []
    for _ in range(1 + repeat):
        run.timings.clear()
        work()
        times.append(dict(run.timings))
    return times[0], {stage: median(t[stage] for t in times[1:]) for stage in times[0]}


def table(first: dict[str, float], stages: dict[str, float], limits: dict[str, float]) -> Iterator[str]:
    yield "| stage | first run, s | seconds | of the network's | limit / seconds |"
    yield "|---|---|---|---|---|"
    network = stages["network"]
    for stage, taken in stages.items():
        share = limits[stage] / max(taken, limits[stage])
        yield f"| {stage} | {first[stage]:.3f} | {taken:.3f} | {taken / network:.0%} | {share:.0%} |"
    early, rest = (sum(times.values()) - times["network"] for times in (first, stages))
    yield f"| all but the network | {early:.3f} | {rest:.3f} | {rest / network:.0%} | |"


def seconds(work: Callable[[], object], repeat: int = 3) -> float:
    """The least of a few: a limit."""
    taken = []
    for _ in range(1 + repeat):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return max(1e-9, min(taken[1:]))


def copying(voxels: Any) -> float:
    source = np.asarray(voxels, np.float32)
    target = np.empty_like(source)
    return seconds(lambda: np.copyto(target, source))


def unpacking(path: Path) -> float:
    data = path.read_bytes()
    return seconds(lambda: deflate.unpacker().decompress(data)) if path.suffix == ".gz" else 1e-9


def packing(folder: Path) -> float:
    """Of all images written; pages and tables are small beside them."""
    images = [gzip.decompress(path.read_bytes()) for path in folder.rglob("*.nii.gz")]
    return seconds(lambda: [b"".join(deflate.packed([image])) for image in images])


def matmul_speed(kind: torch.dtype) -> float:
    """Floating-point operations per second of a product of square matrices."""
    a, b = (torch.randn(SIDE, SIDE, dtype=kind) for _ in range(2))
    return 2 * SIDE**3 / seconds(lambda: a @ b)


def network_operations(prepared: Prepared, method: scoring.Method) -> float:
    with FlopCounterMode(display=False) as counter:
        scoring.raw_slices(prepared, method, Run())
    return float(counter.get_total_flops())


def operators(prepared: Prepared, method: scoring.Method) -> Iterator[tuple[str, float]]:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        scoring.raw_slices(prepared, method, Run())
    events = sorted(profile.key_averages(), key=lambda event: -event.self_cpu_time_total)
    whole = sum(event.self_cpu_time_total for event in events)
    shares = ((event.key, event.self_cpu_time_total / whole) for event in events[:SHOWN])
    yield from ((name, share) for name, share in shares if share >= 0.01)


def functions(work: Callable[[], None]) -> Iterator[tuple[str, str, float, int]]:
    """Name, the function of uadtk for which it works longest, own seconds and calls; of this thread only."""
    profile = cProfile.Profile(time.process_time)
    profile.runcall(work)
    stats: dict[Function, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    rows = sorted(stats.items(), key=lambda item: -item[1][2])
    for function, (_, calls, own, _, _) in rows[:SHOWN]:
        yield named(function), named(ours(function, stats)), own, calls


def ours(function: Function, stats: dict[Function, Any]) -> Function:
    """Up the callers that spend most in it, to the first in uadtk; the function itself if that is its own."""
    for _ in range(12):
        if "/uadtk/" in function[0] or not stats[function][4]:
            break
        callers = stats[function][4]
        function = max(callers, key=lambda caller: callers[caller][3])
    return function


def named(function: Function) -> str:
    path, line, name = function
    where = "" if path == "~" else f"{'/'.join(Path(path).parts[-2:])}:{line} "
    return f"{where}{name}".replace("|", "\\|")


def process(*words: str) -> tuple[float, int]:
    """Processor seconds, and the peak of memory in KiB, of a Python process; the better of two."""
    found = []
    for _ in range(2):
        child = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            raise SystemExit(f"{words} failed")
        found.append((usage.ru_utime + usage.ru_stime, usage.ru_maxrss))
    return min(found)


if __name__ == "__main__":
    main()
