"""Where the seconds of one scan go: every stage of ``segment`` beside the least it could take on this machine.

    OMP_NUM_THREADS=1 python benchmarks/one_scan.py [--model implant] [--scan FLAIR.nii.gz] [--repeat 3]

Processor seconds on one thread, so that other load on the machine disturbs little: medians after one run that is not
counted. The scan is the demo phantom, slices of 1 mm, if none is named. The limits are measured in the same run: of the
network, its multiplications at the speed of a large matrix product in its own arithmetic; of reading, unpacking the
file with zlib; of writing, packing what was written with zlib at its fastest; of any other stage, copying the scan as
float32 once. Then the operators of the network, and the functions of the whole, by their own seconds.
"""

from __future__ import annotations

import argparse
import cProfile
import gzip
import pstats
import tempfile
import time
import zlib
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
from uadtk.io.cohort import Row
from uadtk.io.read import read_scan
from uadtk.pipeline import score as scoring
from uadtk.pipeline.segment import Rules, segment_file
from uadtk.preparation import Prepared, prepare

DEMO = Path(__file__).parent.parent / "uadtk" / "phantom" / "demo" / "FLAIR.nii.gz"
SIDE = 2048  # of the matrices
SHOWN = 12  # operators, and functions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="implant")
    parser.add_argument("--scan", type=Path, default=DEMO)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    uadtk.core.run.perf_counter = time.process_time  # type: ignore[assignment]
    checkpoint, run = open_checkpoint(arguments.model), Run()
    method, point = scoring.build_method(checkpoint, run), checkpoint.point(None)
    with tempfile.TemporaryDirectory() as folder:

        def work() -> None:
            row = Row("scan", arguments.scan)
            segment_file(row, "scan", method, point, Path(folder) / "out", run, Rules(), overwrite=True)

        stages, written = stages_of(work, run, arguments.repeat), Path(folder) / "out"
        scan = read_scan(arguments.scan)
        prepared = prepare(scan, checkpoint.preparation, Run())
        limits = {stage: copying(scan.voxels) for stage in stages}
        limits |= {"read": unpacking(arguments.scan), "write": packing(written)}
        operations, precision = network_operations(prepared, method), traits(method.model).arithmetic
        speed = {kind: matmul_speed(getattr(torch, kind)) for kind in ("float32", "bfloat16")}
        limits["network"] = operations / speed[precision]
        print(f"{arguments.model}, {' x '.join(map(str, scan.shape))}, {len(prepared.image)} slices, one thread")
        print(f"matrix product: {', '.join(f'{kind} {s / 1e9:.0f} GFLOP/s' for kind, s in speed.items())}")
        print(f"network: {operations / 1e9:.0f} GFLOP in {precision}\n")
        for line in table(stages, limits):
            print(line)
        print("\n| operator of the network | share of its seconds |\n|---|---|")
        for name, share in operators(prepared, method):
            print(f"| {name} | {share:.0%} |")
        print("\n| function | seconds of its own | calls |\n|---|---|---|")
        for name, taken, calls in functions(work):
            print(f"| {name} | {taken:.3f} | {calls} |")


def stages_of(work: Callable[[], None], run: Run, repeat: int) -> dict[str, float]:
    times = []
    for _ in range(1 + repeat):
        run.timings.clear()
        work()
        times.append(dict(run.timings))
    return {stage: median(t[stage] for t in times[1:]) for stage in times[0]}


def table(stages: dict[str, float], limits: dict[str, float]) -> Iterator[str]:
    yield "| stage | seconds | of the network's | limit, s | share of the limit |"
    yield "|---|---|---|---|---|"
    network = stages["network"]
    for stage, taken in stages.items():
        limit = limits[stage]
        yield f"| {stage} | {taken:.3f} | {taken / network:.0%} | {limit:.4f} | {limit / max(taken, limit):.0%} |"
    rest = sum(stages.values()) - network
    yield f"| all but the network | {rest:.3f} | {rest / network:.0%} | | |"


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
    return seconds(lambda: gzip.decompress(data)) if path.suffix == ".gz" else 1e-9


def packing(folder: Path) -> float:
    """Of all images written; pages and tables are small beside them."""
    images = [gzip.decompress(path.read_bytes()) for path in folder.rglob("*.nii.gz")]
    return seconds(lambda: [zlib.compress(image, 1) for image in images])


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
    for event in events[:SHOWN]:
        yield event.key, event.self_cpu_time_total / whole


def functions(work: Callable[[], None]) -> Iterator[tuple[str, float, int]]:
    profile = cProfile.Profile(time.process_time)
    profile.runcall(work)
    stats: Any = pstats.Stats(profile)
    rows = sorted(stats.stats.items(), key=lambda item: -item[1][2])
    for (path, line, name), (_, calls, own, *_) in rows[:SHOWN]:
        where = "" if path == "~" else f"{'/'.join(Path(path).parts[-2:])}:{line} "
        yield f"{where}{name}".replace("|", "\\|"), own, calls


if __name__ == "__main__":
    main()
