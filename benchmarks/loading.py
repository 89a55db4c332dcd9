"""Is training bound by the network, and how much memory does training on a larger-than-memory cohort need?

    python benchmarks/loading.py [--gib 8] [--limit-gib 2] [--steps 200]

Writes a file of synthetic slices of that size, limits the private memory of the process (``RLIMIT_DATA``; pages of a
mapped file are not private and can be dropped), and trains ``ae`` on slices drawn at random from the whole file, timing
fetching, augmentation and network separately.
"""

from __future__ import annotations

import argparse
import platform
import re
import shlex
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from uadtk.checkpoint import new
from uadtk.core.preparation import Preparation
from uadtk.networks.augment import augmented
from uadtk.networks.memory import keep_memory
from uadtk.testing.specimens import healthy_slices
from uadtk.training.optimisers import make_optimisers, take_turns, turns_of
from uadtk.training.slices import BRAIN, NORMAL, Slices

SIDE, BATCH = 128, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=8)
    parser.add_argument("--limit-gib", type=float, default=2)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="where to write the slices (default: the temporary folder)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    limit = limit_memory(arguments.limit_gib)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        slices = write_slices(Path(folder), round(arguments.gib * 2**30 / (SIDE * SIDE * 5)))
        fetching, computing = train(slices, arguments.steps)
    each = 1000 / arguments.steps
    print(f"python {shlex.join(sys.argv)} ({platform.machine()}, torch {torch.__version__}, one thread)")
    print(f"{len(slices)} slices in {arguments.gib:g} GiB, {limit}")
    print(
        f"per batch of {BATCH}: fetch {fetching[0] * each:.1f} ms, augment {fetching[1] * each:.1f} ms, network ",
        end="",
    )
    print(f"{computing * each:.1f} ms: {computing / (sum(fetching) + computing):.1%} of the time")
    status = Path("/proc/self/status")
    if not status.exists():
        print("memory not measured: this system has no /proc")
        return
    text = status.read_text(encoding="utf-8")
    peak, private = (int(re.search(rf"{key}:\s+(\d+) kB", text)[1]) / 2**20 for key in ("VmHWM", "RssAnon"))  # type: ignore[index]
    print(f"private memory at the end {private:.2f} GiB; peak with file pages {peak:.2f} GiB")


def limit_memory(gib: float) -> str:
    """Limit this process's private memory; returns a description of the limit."""
    try:
        import resource
    except ImportError:
        return "private memory not limited: this system has no RLIMIT_DATA"
    resource.setrlimit(resource.RLIMIT_DATA, (int(gib * 2**30),) * 2)
    return f"at most {gib:g} GiB of private memory"


def write_slices(folder: Path, n: int) -> Slices:
    """Repeat a few slices, so that the file holds realistic numbers."""
    batch = healthy_slices(64, SIDE)
    image = batch.image[:, 0].numpy()
    masks = (batch.brain[:, 0].numpy() * np.uint8(BRAIN)) | np.uint8(NORMAL)
    for name, values in (("image.f32", image), ("masks.u8", masks)):
        with (folder / name).open("wb") as file:
            for start in range(0, n, len(values)):
                file.write(values[: n - start].tobytes())
    shape = (n, SIDE, SIDE)
    image_map = np.memmap(folder / "image.f32", "<f4", "r", shape=shape)
    masks_map = np.memmap(folder / "masks.u8", "u1", "r", shape=shape)
    return Slices(image_map, masks_map, 1, np.zeros((n, 3), np.int32), Preparation().pixel_mm)


def train(slices: Slices, steps: int) -> tuple[list[float], float]:
    """Seconds to fetch and to augment, and seconds in the network."""
    keep_memory()
    model = new("ae", {}, Preparation()).new_model().to(memory_format=torch.channels_last).train()
    optimisers = make_optimisers(model, 3e-4)
    order = np.random.default_rng(0).choice(len(slices), steps * BATCH, replace=False)
    fetching, computing = [0.0, 0.0], 0.0
    for rows in np.split(order, steps):
        times = [time.perf_counter()]
        batch = slices.batch(rows, "cpu")
        times.append(time.perf_counter())
        batch = augmented(batch)
        times.append(time.perf_counter())
        with torch.autocast("cpu", torch.bfloat16):
            take_turns(turns_of(model, 1), optimisers, [batch])
        times.append(time.perf_counter())
        fetched, changed, computed = np.diff(times)
        fetching = [fetching[0] + fetched, fetching[1] + changed]
        computing += computed
    return fetching, computing


if __name__ == "__main__":
    main()
