"""Part a of `device.py`: the kernel tests on CUDA, and the kernels beside CuPy's own functions and our CPU.

Seconds are medians of wall time until the device has finished, launches included. "GB" are the bytes that a kernel must
move, each input read once and each output written once; their share of the bandwidth is that of a copy measured in the
same run, so 100 % is the limit of a kernel bound by memory. cuCIM is not among the peers: its filters are those of
``cupyx.scipy.ndimage``. In a rehearsal NumPy and SciPy stand for CuPy.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
from device_job import ROOT, Job, Result, seconds

from benchmarks.kernels.harness import brain
from uadtk.kernels import (
    aggregate,
    average_precision,
    component_sweep,
    curvature_flow,
    dice_curve,
    erode,
    label_components,
    label_stats,
    median3d,
    quantile,
)

TITLE = "Kernels"
GRID = (np.arange(1001) * 0.001).astype(np.float32)
SAMPLED = 50  # every 50th threshold of a loop is timed


def machine(job: Job) -> Iterator[Result]:
    import torch

    name = torch.cuda.get_device_name() if job.device == "cuda" else platform.machine()
    names = ("torch", "numpy", "numba", "scipy", *(["cupy-cuda13x"] if job.device == "cuda" else []))
    versions = ", ".join(f"{package} {version(package)}" for package in names)
    yield {"table": "Machine", "device": name, "cores": os.cpu_count(), "versions": versions}


def kernel_tests(job: Job) -> Iterator[Result]:
    """The tests of the kernels on real CuPy arrays; those of the sources on the CPU are run everywhere else."""
    backend = "cupy" if job.device == "cuda" else "numba"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-o",
        "addopts=",
        "-o",
        "filterwarnings=",
    ]
    done = subprocess.run(
        [*command, "--maxfail=40", *job.sizes.tests],
        cwd=ROOT,
        env={**os.environ, "UADTK_TEST_BACKENDS": backend},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(done.stdout, flush=True)
    lines = done.stdout.rstrip().splitlines()
    yield {"table": "Tests", "what": f"backend {backend}", "result": lines[-1] if lines else "no output"}
    for line in lines:
        if line.startswith(("FAILED", "ERROR")):
            yield {"table": "Tests", "what": "failed", "result": line[:300]}
    if done.returncode:
        raise RuntimeError(f"pytest ended with {done.returncode}")


@dataclass(frozen=True)
class Case:
    """``ours`` and ``peers`` on the device, ``host`` on a thread of the CPU; ``agree`` checks ours with a peer's."""

    kernel: str
    case: str
    ours: Callable[[], Any]
    host: Callable[[], Any]
    peers: dict[str, Callable[[], Any]] = field(default_factory=dict)
    moved: int = 0  # bytes
    agree: Callable[[Any, Any], Any] | None = None
    parts: int = 1  # of which a peer does one


def kernel_table(job: Job) -> Iterator[Result]:
    xp, ndimage, wait = arrays(job.device)
    copied = job.sizes.megabytes << 20
    bandwidth = 2 * copied / copy_seconds(copied, job.sizes.repeats, xp, wait)
    yield {"table": "Bandwidth", "copy, GB/s": bandwidth / 1e9, "MB": copied / 1e6}
    for case in cases(job, xp, ndimage):
        try:
            yield from rows_of(case, job.sizes.repeats, wait, bandwidth)
        except Exception as error:  # a kernel that fails is a result; the others are measured all the same
            yield {
                "table": TITLE,
                "kernel": case.kernel,
                "case": case.case,
                "error": f"{type(error).__name__}: {error}",
            }
    yield transfer(job, xp, wait)


def arrays(device: str) -> tuple[Any, Any, Callable[[], object]]:
    """The array module, its ``ndimage``, and what waits for the device."""
    if device == "cuda":
        import cupy
        from cupyx.scipy import ndimage

        return cupy, ndimage, cupy.cuda.Device().synchronize
    from scipy import ndimage as of_scipy

    return np, of_scipy, lambda: None


def copy_seconds(size: int, repeats: int, xp: Any, wait: Callable[[], object]) -> float:
    source = xp.asarray(np.random.default_rng(0).random(size // 4, dtype=np.float32))
    target = xp.empty_like(source)
    return seconds(lambda: xp.copyto(target, source), repeats, wait)


def rows_of(case: Case, repeats: int, wait: Callable[[], object], bandwidth: float) -> Iterator[Result]:
    start = time.perf_counter()
    found = case.ours()
    wait()
    first = time.perf_counter() - start
    ours = seconds(case.ours, repeats, wait)
    on_cpu = seconds(case.host, min(3, repeats))
    row = {"table": TITLE, "kernel": case.kernel, "case": case.case, "first call, s": first, "ours, ms": ours * 1e3}
    row |= {"our CPU, ms": on_cpu * 1e3, "our CPU / ours": on_cpu / ours}
    if case.moved:
        row |= {"GB": case.moved / 1e9, "share of bandwidth": case.moved / ours / bandwidth}
    for name, peer in case.peers.items():
        theirs = seconds(peer, min(3, repeats), wait) * case.parts
        agrees = "" if case.agree is None else "yes" if bool(case.agree(found, peer())) else "NO"
        yield {**row, "peer": name, "peer, ms": theirs * 1e3, "peer / ours": theirs / ours, "agree": agrees}
    if not case.peers:
        yield row


def cases(job: Job, xp: Any, ndimage: Any) -> Iterator[Case]:
    sample = brain(job.sizes.volume)
    dense = np.random.default_rng(0).standard_normal(sample.mask.shape, dtype=np.float32)
    for what, host in (("residual", sample.residual), ("dense noise", dense)):
        for size in (3, 5, 7) if what == "residual" else (5,):
            yield median(size, what, host, xp, ndimage)
    yield erosion(sample.mask, xp, ndimage)
    positive = (1 + sample.signed).astype(np.float32)
    on_device = xp.asarray(positive)
    yield Case("curvature_flow", "5 iterations", lambda: curvature_flow(on_device), lambda: curvature_flow(positive))
    yield monte_carlo(sample, job.sizes.samples, xp)
    yield quantiles(sample.signed, job.sizes.samples, xp)
    yield curve(sample, xp)
    yield precision(sample, xp)
    yield from components(sample.residual, xp, ndimage)


def median(size: int, what: str, host: Any, xp: Any, ndimage: Any) -> Case:
    volume = xp.asarray(host)
    return Case(
        "median3d",
        f"{size}^3, {what}",
        lambda: median3d(volume, size),
        lambda: median3d(host, size),
        {"ndimage.median_filter": lambda: ndimage.median_filter(volume, size, mode="reflect")},
        2 * host.nbytes,
        lambda a, b: (a == b).all(),
    )


def erosion(host: Any, xp: Any, ndimage: Any) -> Case:
    mask = xp.asarray(host)
    return Case(
        "erode",
        "3 iterations",
        lambda: erode(mask, 3),
        lambda: erode(host, 3),
        {"ndimage.binary_erosion": lambda: ndimage.binary_erosion(mask, iterations=3, brute_force=True)},
        2 * host.nbytes,
        lambda a, b: (a == b).all(),
    )


def monte_carlo(sample: Any, samples: int, xp: Any) -> Case:
    rng = np.random.default_rng(0)
    batch = np.stack([sample.signed + 0.1 * rng.standard_normal(sample.mask.shape, np.float32) for _ in range(samples)])
    batch = batch.astype(np.float32, copy=False)
    image, many, mask = (xp.asarray(array) for array in (sample.signed, batch, sample.mask))

    def two_passes() -> Any:
        residual = xp.maximum(image - many, 0) * mask
        return residual.mean(0), residual.var(0)

    return Case(
        "aggregate",
        f"mean and variance of {samples} volumes",
        lambda: aggregate(image, many, mask, variance=True),
        lambda: aggregate(sample.signed, batch, sample.mask, variance=True),
        {"expression, mean, var": two_passes},
        batch.nbytes + 3 * sample.signed.nbytes + sample.mask.nbytes,
        lambda ours, theirs: all(abs(a - b).max() < 1e-4 for a, b in zip(ours, theirs, strict=True)),
    )


def quantiles(host: Any, volumes: int, xp: Any) -> Case:
    each = [xp.asarray(host) for _ in range(volumes)]
    together = xp.stack(each).ravel()
    return Case(
        "quantile",
        f"98th of {volumes} volumes",
        lambda: quantile(each, 0.98),
        lambda: quantile([host] * volumes, 0.98),
        {"percentile of all in memory": lambda: xp.percentile(together, 98.0)},
        2 * together.nbytes,  # it reads twice: the upper halves of all values, then the lower halves
        lambda a, b: abs(float(a) - float(b)) < 1e-5,
    )


def curve(sample: Any, xp: Any) -> Case:
    score, truth = xp.asarray(sample.residual), xp.asarray(sample.truth)

    def loop() -> None:
        for threshold in GRID[::SAMPLED]:
            kept = score > threshold
            float(2 * (kept & truth).sum() / (kept.sum() + truth.sum()))

    return Case(
        "dice_curve",
        "1001 thresholds",
        lambda: dice_curve(score, truth),
        lambda: dice_curve(sample.residual, sample.truth),
        {"loop over 1001 thresholds": loop},
        score.nbytes + truth.nbytes,
        parts=GRID.size // SAMPLED,
    )


def precision(sample: Any, xp: Any) -> Case:
    score, truth = xp.asarray(sample.residual), xp.asarray(sample.truth)

    def sorting() -> float:
        """Ties in an arbitrary order, so the value is close and not equal."""
        hits = truth.ravel()[xp.argsort(-score.ravel())]
        return float((hits.cumsum() / xp.arange(1, hits.size + 1) * hits).sum() / hits.sum())

    return Case(
        "average_precision",
        "every distinct threshold",
        lambda: average_precision(score, truth),
        lambda: average_precision(sample.residual, sample.truth),
        {"argsort, cumsum": sorting},
        score.nbytes + truth.nbytes,
        lambda a, b: abs(a - b) < 0.01,
    )


def components(host: Any, xp: Any, ndimage: Any) -> Iterator[Case]:
    score, mask, on_host = xp.asarray(host), xp.asarray(host > 0.1), host > 0.1
    yield Case(
        "label_components",
        "26-connected, 8 voxels or more",
        lambda: label_components(mask, 26, 8),
        lambda: label_components(on_host, 26, 8),
        {"ndimage.label, unsorted": lambda: ndimage.label(mask, structure=xp.ones((3, 3, 3), bool))},
    )
    labels, count = label_components(mask, 26, 8)
    labels_on_host, _ = label_components(on_host, 26, 8)
    numbers = xp.arange(1, int(count) + 1)
    yield Case(
        "label_stats",
        f"{int(count)} labels",
        lambda: label_stats(labels, score),
        lambda: label_stats(labels_on_host, host),
        {
            "ndimage.mean, maximum": lambda: (
                ndimage.mean(score, labels, numbers),
                ndimage.maximum(score, labels, numbers),
            )
        },
    )


def transfer(job: Job, xp: Any, wait: Callable[[], object]) -> Result:
    """The sweep over components runs on the CPU: what bringing a score and its truth there adds to it."""
    sample = brain(job.sizes.volume)
    score, truth = xp.asarray(sample.residual), xp.asarray(sample.truth)
    fetch = xp.asnumpy if job.device == "cuda" else np.copy
    fetched = seconds(lambda: (fetch(score), fetch(truth)), job.sizes.repeats, wait)
    sweep = seconds(lambda: component_sweep(sample.residual, sample.truth, 8), min(3, job.sizes.repeats))
    row = {"table": "The component sweep, on the CPU", "transfer, ms": fetched * 1e3, "sweep, ms": sweep * 1e3}
    return {**row, "transfer / sweep": fetched / sweep, "GB/s": (score.nbytes + truth.nbytes) / fetched / 1e9}
