"""Cost of a lesson of the model `implant` compared with the training step: CPU seconds on one thread, and memory.

    python benchmarks/implant_speed.py [--width 16] [--side 128] [--batch 16] [--repeat 5]

CPU time, so that other load on the machine matters little. Slices are synthetic; the forward pass is in bfloat16, as in
`train_implant.py`. Memory is the growth of the process during its first lessons.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from functools import partial

import torch

from uadtk.models.implant import Model, Options
from uadtk.networks.lessons import JUDGED, LEARNED, lesson
from uadtk.testing.specimens import healthy_slices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    batch = healthy_slices(arguments.batch, arguments.side)
    model = Model(Options(width=arguments.width), arguments.side).train()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    before = peak_mb()
    made = [seconds(partial(lesson, batch, model.pixel_mm, r), arguments.repeat) for r in (LEARNED, JUDGED)]
    grown = peak_mb() - before

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = model.training_loss(batch)["loss"]
        loss.backward()

    whole = seconds(step, arguments.repeat)
    given = batch.image.numel() * 4 / 2**20
    print(f"lesson {made[0]:.3f} s (held-out kinds {made[1]:.3f} s), step with it {whole:.3f} s: {made[0] / whole:.0%}")
    print(f"memory +{grown:.0f} MB for {given:.0f} MB of slices")


def seconds(work: Callable[[], object], repeat: int) -> float:
    """Median CPU seconds, after one warm-up run."""
    taken = []
    for _ in range(repeat + 1):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return sorted(taken[1:])[repeat // 2]


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
