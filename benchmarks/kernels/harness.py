"""Shared by the kernel benchmarks: timing, synthetic brains, machine description and the table.

A benchmark module ``benchmarks/kernels/<file>.py`` defines two functions:

``rows(quick)``
    yields one :class:`Row` per case, and asserts in the same run that our result and the peers' agree.
``first_call()``
    calls the kernel once on a tiny input: timed in a fresh process with an empty and then a filled Numba cache.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).parents[2]
# Environment of a fresh process: NumPy, torch and ITK read these variables when loaded.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"), "1"
)
# Three sizes, to show the scaling: a cropped brain, the MNI grid at 1 mm, the SRI24 grid of BraTS.
SHAPES = {"sq": (128, 128, 155), "mni": (182, 218, 182), "sri": (240, 240, 155)}
_VERSIONED = ("numpy", "scipy", "numba", "SimpleITK", "connected-components-3d", "scikit-learn")


@dataclass(frozen=True)
class Row:
    """One case: our median time and each peer's, in seconds.

    ``goal`` and ``floor`` are ratios peer/ours: one number for all peers, or one per peer name (other peers are
    shown for information). A ratio below ``floor`` fails the run; the goal is for an idle machine.
    """

    kernel: str
    case: str
    ours_s: float
    peers: Mapping[str, float] = field(default_factory=dict)
    goal: float | Mapping[str, float] | None = None
    floor: float | Mapping[str, float] | None = None


@dataclass(frozen=True)
class Brain:
    """A synthetic case. ``residual`` >= 0 and ``signed`` are float32 (z, y, x), zero outside ``mask``."""

    residual: npt.NDArray[np.float32]
    signed: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]
    truth: npt.NDArray[np.bool_]


def interleave(functions: Mapping[str, Callable[[], object]], repeats: int = 5, warmup: int = 1) -> dict[str, float]:
    """Median CPU seconds of each function, called in turns so that machine load affects all of them equally.

    CPU time, not wall time: every function runs on one thread, and load would distort short times most.
    """
    for _ in range(warmup):
        for function in functions.values():
            function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.process_time()
            function()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in times.items()}


@functools.lru_cache(maxsize=4)
def brain(shape: str | tuple[int, int, int] = "mni", seed: int = 0) -> Brain:
    """An ellipsoid brain of 27 % of the volume: smooth field, noise, and blob lesions in 0.3 % of the brain."""
    from scipy import ndimage

    shape = SHAPES[shape] if isinstance(shape, str) else shape
    rng = np.random.default_rng(seed)

    def smooth(sigma: float) -> npt.NDArray[np.float32]:
        image = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma)
        return np.asarray(image / image.std(), np.float32)

    grid = np.ogrid[tuple(slice(0, n) for n in shape)]
    semi_axis = (0.27 / (4 / 3 * np.pi)) ** (1 / 3)
    radius2 = sum(((g - (n - 1) / 2) / (semi_axis * n)) ** 2 for g, n in zip(grid, shape, strict=True))
    mask = radius2 < (1 + 0.08 * smooth(8)) ** 2
    texture = 0.6 * rng.standard_normal(shape, dtype=np.float32) + 0.8 * smooth(1)
    signed = 0.03 * (smooth(3) + texture)

    truth = np.zeros(shape, bool)
    inside = np.argwhere(mask)
    while truth.sum() < 0.003 * mask.sum():
        centre, radius = rng.choice(inside), rng.lognormal(0.5, 0.5)
        low = np.maximum(centre - int(radius), 0)
        high = np.minimum(centre + int(radius) + 1, shape)
        box = tuple(slice(*ends) for ends in zip(low, high, strict=True))
        truth[box] |= sum((g - c) ** 2 for g, c in zip(np.ogrid[box], centre, strict=True)) <= radius**2
    truth &= mask
    signed += truth * rng.uniform(0.05, 0.3, shape).astype(np.float32)
    signed = np.where(mask, signed, 0).astype(np.float32)
    return Brain(np.maximum(signed, 0), signed, mask, truth)


def machine() -> str:
    """Processor, cores, memory, load and library versions: one Markdown paragraph."""
    cpu = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
    memory_kb = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    memory = f"{memory_kb / 2**20:.0f} GiB" if memory_kb else "unknown memory"
    versions = [f"Python {platform.python_version()}"]
    for name in _VERSIONED:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{name} missing")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"
    return (
        f"{cpu or platform.processor()}, {os.cpu_count()} cores, {memory}, {platform.platform()}; "
        f"load average {load} at the start; {', '.join(versions)}. Every side on one thread."
    )


def table(rows: Iterator[Row]) -> Iterator[str | BelowFloor]:
    """Lines of the Markdown table, one per peer, as the rows arrive; a :class:`BelowFloor` after each miss."""
    yield "| kernel | case | ours, ms | peer | peer, ms | peer / ours | goal | floor | |"
    yield "|---|---|---:|---|---:|---:|---:|---:|---|"
    for row in rows:
        head = f"| {row.kernel} | {row.case} | {row.ours_s * 1e3:.3g} |"
        if not row.peers:
            yield f"{head} | | | | | |"
        for peer, seconds in row.peers.items():
            ratio, goal, floor = seconds / row.ours_s, _for_peer(row.goal, peer), _for_peer(row.floor, peer)
            missed = floor is not None and ratio < floor
            verdict = "**below floor**" if missed else "" if goal is None else "reached" if ratio >= goal else "missed"
            cells = [f"{seconds * 1e3:.4g}", f"{ratio:.3g}", *("" if v is None else f"{v:g}" for v in (goal, floor))]
            yield f"{head} {peer} | {' | '.join(cells)} | {verdict} |"
            if missed:
                yield BelowFloor(f"{row.kernel}, {row.case}: {ratio:.3g} times {peer}, floor {floor:g}")


class BelowFloor(str):
    """A ratio below its floor, which fails the run."""


def first_call_seconds(module: str) -> tuple[float, float]:
    """Seconds of ``first_call()`` in a fresh process: with an empty compile cache, then with the cache just filled.

    NumPy and Numba are imported before timing starts, so only compiling or loading the kernels is timed.
    """
    code = (
        "import importlib, time, numpy, numba\n"
        f"m = importlib.import_module('benchmarks.kernels.{module}')\n"
        "t = time.perf_counter(); m.first_call(); print(time.perf_counter() - t)"
    )
    with tempfile.TemporaryDirectory() as cache:
        env = {**os.environ, **ONE_THREAD, "NUMBA_CACHE_DIR": cache}
        run = functools.partial(subprocess.run, check=True, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
        cold, warm = (float(run([sys.executable, "-c", code]).stdout.split()[-1]) for _ in range(2))
    return cold, warm


def _for_peer(value: float | Mapping[str, float] | None, peer: str) -> float | None:
    return value.get(peer) if isinstance(value, Mapping) else value


def _lines(path: str) -> list[str]:
    """The lines of a file of Linux; none on other systems."""
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []
