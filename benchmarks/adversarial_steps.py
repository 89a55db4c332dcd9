"""Processor seconds of a training step of the adversarial models, as the study trains them, beside another checkout.

    OMP_NUM_THREADS=1 python benchmarks/adversarial_steps.py [--models anogan vae] [--rounds 1] [--beside CHECKOUT]

One thread, bfloat16, 16 made slices of 128 pixels; the least of a few steps, every player's turns included. Each round
starts a process per checkout, in turns. ``fanogan`` is the mean of its two stages, which have as many steps.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from train_all import PLANS
from training import BATCH, SIDE, made

from uadtk import registry
from uadtk.core.model import Batch, Turn
from uadtk.core.options import build
from uadtk.networks.memory import keep_memory
from uadtk.networks.seeded import seeded
from uadtk.training.optimisers import make_optimisers, take_turns, turns_of

MODELS = [
    *("vae", "aae", "constrained-aae", "fanogan", "anovaegan", "anovaegan-spatial", "anogan", "steganomaly"),
    "constrained-aae-original",
]
STEPS = 2
WARM = 8  # an epoch after the warm-up of adversarial autoencoders


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=PLANS, default=MODELS)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--beside", type=Path, help="another checkout of uadtk")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(seconds(*arguments.models))
        return
    trees = [Path(__file__).parent.parent, *([arguments.beside.resolve()] if arguments.beside else [])]
    names = ["this checkout, s", *(["the other, s", "ratio"] if arguments.beside else [])]
    print("| model | " + " | ".join(names) + " |\n|---" + "|---" * len(names) + "|", flush=True)
    for name in arguments.models:
        rounds = [[in_tree(tree, name) for tree in trees] for _ in range(arguments.rounds)]
        least = [min(column) for column in zip(*rounds, strict=True)]
        ratio = [f"{least[1] / least[0]:.2f}"] if arguments.beside else []
        print(f"| {name} | " + " | ".join([*(f"{s:.2f}" for s in least), *ratio]) + " |", flush=True)


def in_tree(tree: Path, name: str) -> float:
    command = [sys.executable, __file__, "--one", "--models", name]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    return float(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout)


def seconds(name: str) -> float:
    """The least of the steps; the first is not counted."""
    torch.set_num_threads(1)
    keep_memory()
    plan = PLANS[name]
    words = plan.options.replace("--simulated {simulated}", "").format(half=1).split()
    options = (word.removeprefix("--").replace("-", "_") for word in words[::2])
    given = dict(zip(options, words[1::2], strict=True))
    kind = registry.load("models", plan.model or name)
    with seeded(0):
        model: Any = kind(build(kind.Options, given, name), SIDE)
    model.train().to(memory_format=torch.channels_last)
    optimisers, batch = make_optimisers(model, 3e-4), made().batch(np.arange(BATCH), "cpu")
    stages = (1, 2) if name == "fanogan" else (WARM,)
    return float(np.mean([_least(model, optimisers, batch, epoch) for epoch in stages]))


def _least(model: Any, optimisers: Any, batch: Batch, epoch: int) -> float:
    taken = []
    for _ in range(STEPS + 1):
        start = time.process_time()
        take_turns([_reduced(turn) for turn in turns_of(model, epoch)], optimisers, [batch])
        taken.append(time.process_time() - start)
    return min(taken[1:])


def _reduced(turn: Turn) -> Turn:
    """In bfloat16; other checkouts may not have ``once``."""

    def within(compute: Callable[..., Any]) -> Callable[..., Any]:
        def reduced(*given: Any) -> Any:
            with torch.autocast("cpu", torch.bfloat16):
                return compute(*given)

        return reduced

    parts = {part: getattr(turn, part, None) for part in ("loss", "once")}
    changed: dict[str, Any] = {part: within(compute) for part, compute in parts.items() if compute}
    return replace(turn, **changed)


if __name__ == "__main__":
    main()
