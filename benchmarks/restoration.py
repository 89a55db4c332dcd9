"""Restoration, the paper's way against ours: same model, same slices, one run.

    python benchmarks/restoration.py ../shared/data/cohort.tsv --model build/models/vae.safetensors [--scans 5]

The paper's way is the straightforward implementation: one slice at a time, float32, 500 steps, ``backward()`` through a
model whose weights require gradients, default memory allocation. Ours are specs of the scorer ``restoration``. Each
runs in a separate process with the same number of threads, in turn on the same scans (``lgg`` validation). AUPRC and
⌈DICE⌉ (an oracle) are pooled over brain voxels on the scans' own grids, with the default cleaners; "moved" is the mean
absolute difference between our score and the paper's over the brain, relative to the mean score.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uadtk.checkpoint import load
from uadtk.core.run import Run
from uadtk.core.spec import Spec
from uadtk.io.cohort import read_cohort, read_row
from uadtk.io.read import read_mask
from uadtk.kernels import average_precision, best_dice
from uadtk.pipeline import score as scoring
from uadtk.plugin import Scored

PAPER = "the paper's way"
OURS = ("restoration:hold=1", "restoration:hold=2", "restoration", "restoration:precision=bfloat16")


class Paper:
    """You et al. 2019, implemented literally."""

    needs_gradient = True

    def __init__(self, tv: float, clip: float, steps: int = 500) -> None:
        self.tv, self.clip, self.steps = tv, clip, steps

    def score(self, model: Any, x: Tensor, brain: Tensor) -> Scored:
        restored = torch.cat([self.restore(model, x[k : k + 1], brain[k : k + 1]) for k in range(len(x))])
        return Scored((x - restored).clamp(min=0) * brain)

    def restore(self, model: Any, y: Tensor, brain: Tensor) -> Tensor:
        x = y.contiguous()
        for step in range(self.steps):
            x = x.detach().requires_grad_()
            change = x - y
            variation = change.diff(dim=2).abs().sum() + change.diff(dim=3).abs().sum()
            (model.objective(x).sum() + self.tv * variation).backward()
            assert x.grad is not None
            x = x - (5e-3 if step < 100 else 2e-3) * brain * x.grad.clamp(-self.clip, self.clip)
            model.zero_grad(set_to_none=True)
        return x.detach()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--scans", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tv", type=float, default=0.4)
    parser.add_argument("--ours", nargs="+", default=OURS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(arguments)))
        return
    print(f"`python {shlex.join(sys.argv)}`", f"({platform.machine()}, torch {torch.__version__})", "", sep="\n")
    print("| how | threads | slices | seconds per slice | times as fast | AUPRC | ⌈DICE⌉ (oracle) | moved |")
    print("|---|---|---|---|---|---|---|---|")
    first: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for spec in (PAPER, *arguments.ours):
            command = [sys.executable, __file__, *sys.argv[1:], "--child", f"{folder} {spec}"]
            env = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
            child = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
            found = json.loads(child.stdout.splitlines()[-1])
            first = first or found
            each, ratio = found["seconds"] / found["slices"], first["seconds"] / found["seconds"]
            print(
                f"| {spec} | {arguments.threads} | {found['slices']} | {each:.3f} | {ratio:.1f} | "
                f"{found['auprc']:.4f} | {found['dice']:.4f} | {found['moved']:.1%} |",
                flush=True,
            )


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    folder, _, spec = arguments.child.partition(" ")
    torch.set_num_threads(arguments.threads)
    checkpoint, run, paper = load(arguments.model), Run(), spec == PAPER
    if paper:
        scoring.keep_memory = lambda: None  # type: ignore[assignment]
    else:
        own = Spec.parse(spec)
        ours = own if "tv" in own.values else own.having(tv=arguments.tv)
    method = scoring.build_method(replace(checkpoint, scorer=Spec("restoration") if paper else ours), run)
    if paper:
        method = replace(method, scorer=Paper(arguments.tv, clip=50.0))
        method.models[0].requires_grad_(True).to(memory_format=torch.contiguous_format)
    scores, truths, seconds, slices = [], [], 0.0, 0
    cohort = read_cohort(arguments.cohort).split("validation").where(collection="lgg")
    for row in list(cohort)[: arguments.scans]:
        scan, brain_mask = read_row(row, Run())
        truth = read_mask(row.lesion_mask, like=scan, may_be_empty=True).voxels  # type: ignore[arg-type]
        run.timings.clear()
        scored = scoring.score_map(scan, method, run, brain_mask)
        seconds += run.timings["network"]
        slices += len(scoring.prepare(scan, checkpoint.preparation, Run(), brain_mask).image)
        brain = scored.brain.voxels
        scores.append(scored.score.voxels[brain])
        truths.append(truth[brain])
    kept = Path(folder) / "paper.npy"
    together = np.concatenate(scores)
    if paper:
        np.save(kept, together)
    reference = np.load(kept)
    return {
        "seconds": seconds,
        "slices": slices,
        "auprc": average_precision(scores, truths),
        "dice": best_dice(scores, truths).dice,
        "moved": float(np.abs(together - reference).mean() / reference.mean()),
    }


if __name__ == "__main__":
    start = time.perf_counter()
    main()
    if "--child" not in sys.argv:
        print(f"\n{time.perf_counter() - start:.0f} s in all")
