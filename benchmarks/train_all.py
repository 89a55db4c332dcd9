"""Train every model on the glioma scans with the same budget, and measure what each has learned.

    python benchmarks/train_all.py ../shared/data build/models --steps 5000       # the study: a day on two cores
    python benchmarks/train_all.py ../shared/data build/models --steps 1          # a rehearsal, one epoch each: minutes
    python benchmarks/train_all.py ../shared/data build/models --models vae ae    # some of them
    python benchmarks/train_all.py ../shared/data build/models --trained          # the table of those trained so far

Every row takes ``--steps`` batches of 16 slices, rounded up to whole epochs, without early stopping; a model in two
stages takes half of them in each. Adversaries take further steps on the same batches. Computed in bfloat16 where the
machine does so in hardware, else in float32. Trains on ``lgg`` train, known lesions and 6 mm around them excluded from
the loss; the weights kept are those of the best epoch on ``lgg`` validation.
Each training is a uadtk command, printed first. The script can be killed at any time: the same command resumes after
the last complete epoch, waits for a training that has outlived it, and trains nothing twice. If a training fails, the
others go on, and the exit code is 1. Installed plugins are included. The printed table has, per trained model,

* the error on held-out slices (``lgg`` validation; known lesions and 6 mm around them excluded), compared with the mean
  training slice and with PCA of the training slices with as many components as the model has latent dimensions:
  Σ|x - x̂| per slice, the loss of most models, and the mean |x - x̂| inside the brain;
* AUPRC and ⌈DICE⌉ (an oracle) on ``lgg`` validation, of the scorer that the model declares (the positive residual, if
  none) with the default cleaners, and of the same times the intensity rank (``prior``), compared with the no-learning
  ``histeq``.
"""

from __future__ import annotations

import argparse
import fcntl
import math
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
from _shared import finished, gliomas, uadtk
from torch import Tensor

from uadtk.checkpoint import Checkpoint, load, open_checkpoint
from uadtk.core.errors import UsageError
from uadtk.core.model import DEFAULT_CLEANERS, Batch, capabilities
from uadtk.core.preparation import Preparation, preparation_of
from uadtk.core.run import Run
from uadtk.core.spec import parse_all
from uadtk.io.cohort import Cohort, read_cohort
from uadtk.io.table import write_cohort
from uadtk.networks.arithmetic import fast_bfloat16
from uadtk.networks.distances import l1
from uadtk.pipeline.evaluate import evaluate
from uadtk.training.logs import log_path, read_log
from uadtk.training.slices import Slices, load_slices

STEPS, BATCH = 5000, 16
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")  # which uadtk train takes
PRECISION = "bfloat16" if fast_bfloat16(DEVICE) else "float32"
SHARED = f"--masked --batch 16 --learning-rate 3e-4 --decay cosine --precision {PRECISION} --threads 1".split()


@dataclass(frozen=True)
class Plan:
    """Options besides ``SHARED``, where ``{half}`` is half of the epochs and ``{simulated}`` slices of phantoms; the
    dimension of z; the model, unless it is the row's name; and the preparation. Dropout is as in the study's Table II,
    by default: in samples only.
    """

    options: str = ""
    z: int = 128
    model: str = ""
    prepare: str = ""


SPATIAL = 128 * 8 * 8
LARGE = "side=256"
# In the order of training: first what the study's orderings need, then the rest by seconds per step,
# so that a study that is cut off has most rows and loses those that take hours.
PLANS = {
    "vae": Plan(),
    "ae": Plan(),
    "ae-spatial": Plan(z=SPATIAL),
    "gmvae": Plan(),
    "gmvae-spatial": Plan("--dim-z 8", z=8 * 64),
    "context-vae": Plan(),
    "skip-ae": Plan(z=SPATIAL),
    "scale-space": Plan(
        "--widths 8,16,48 --lowpass 128 --noise 0.3", z=3 * SPATIAL + 128, model="scalespace"
    ),  # as shipped, whose name is taken
    "constrained-ae": Plan(),
    "context-ae": Plan(),
    "ae-25d": Plan("--neighbours 1", model="ae"),  # to compare with ae: --models ae ae-25d
    "ocsvm": Plan(),
    "aae": Plan("--warm-up 2 --critic-steps 5"),
    "constrained-aae": Plan("--warm-up 2 --critic-steps 5"),
    "dae": Plan("--width 32", z=0),
    "fanogan": Plan("--gan-epochs {half}"),
    "anovaegan": Plan(),
    "steganomaly": Plan("--width 16 --blocks 3 --simulated {simulated}", z=0),
    "anogan": Plan("--steps 100"),  # of the search for z
    "anovaegan-spatial": Plan("--bottleneck spatial", z=SPATIAL, model="anovaegan"),
    # the networks of the original papers (Fig. 9), and full resolution
    "vae-original": Plan("--network zimmerer", model="vae"),
    "context-vae-original": Plan("--network zimmerer", model="context-vae"),
    "gmvae-spatial-original": Plan("--network you --components 6 --c-lambda 0.5", z=32 * 32, model="gmvae-spatial"),
    "constrained-aae-original": Plan(
        "--network chen --loss norm --weight 0.5 --warm-up 1 --critic-steps 5", model="constrained-aae"
    ),
    "vae-256": Plan(model="vae", prepare=LARGE),
    "ae-256": Plan(model="ae", prepare=LARGE),
    "fanogan-original": Plan("--network resnet --gan-epochs {half}", model="fanogan"),
}

SIMULATED = "--count 40 --slice-mm 5 --seed 9000 --flat --slices".split()  # noqa: SIM905

COLUMNS = (
    *("model", "parameters, M", "epochs", "minutes", "Σ abs. error per slice", "Σ of the mean image"),
    *("Σ of PCA (components)", "mean abs. error in the brain", "of the mean image", "of PCA (components)", "scorer"),
    *("AUPRC", "⌈DICE⌉", "AUPRC, prior", "⌈DICE⌉, prior"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--models", nargs="+", choices=PLANS, default=list(PLANS))
    parser.add_argument("--steps", type=int, default=STEPS, help="batches per row")
    parser.add_argument("--jobs", type=int, default=1, help="parallel trainings, one thread each")
    parser.add_argument("--trained", action="store_true", help="train nothing: the table of the finished rows")
    parser.add_argument("-o", "--output", type=Path, help="also write the table to this file")
    arguments = parser.parse_args()
    work: Path = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    table = work / "lgg.tsv"
    write_cohort(table, gliomas(arguments.data.resolve()))
    wanted = [name for name in arguments.models if is_installed(PLANS[name].model or name)]
    cohort = read_cohort(table)
    benches = {text: Bench(cohort, work, preparation_of(text)) for text in {"", *(PLANS[n].prepare for n in wanted)}}
    failed = {} if arguments.trained else train_rows(wanted, table, benches, arguments)
    wanted = [name for name in wanted if name not in failed and finished(work / f"{name}.safetensors")]
    first = benches[""]
    lines = [
        f"`python {shlex.join(sys.argv)}`",
        f"({len(first.train)} training slices of {first.train.scans} scans, "
        f"{len(first.held)} held-out slices, AUPRC on {len(first.labelled)} scans)",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|" + "---|" * len(COLUMNS),
    ]
    for name in [*wanted, "histeq"]:
        cells = benches[PLANS[name].prepare if name in PLANS else ""].row(name)
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], file=sys.stderr, flush=True)
    print("\n".join(lines))
    if arguments.output:
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if failed:
        raise SystemExit("\n".join(f"{name}: {problem}" for name, problem in failed.items()))


def epochs_of(slices: int, steps: int) -> int:
    """The least number of epochs with ``steps`` batches or more; an epoch drops the last batch if it is not full."""
    return math.ceil(steps / max(1, slices // BATCH))


def is_installed(name: str) -> bool:
    from uadtk import registry

    try:
        registry.find("models", name)
    except UsageError:
        print(f"{name}: not installed, skipped (pip install plugins/uadtk-{name})", file=sys.stderr)
        return False
    return True


def train_rows(
    rows: Sequence[str], table: Path, benches: dict[str, Bench], wanted: argparse.Namespace
) -> dict[str, str]:
    """Train in this order. Returns the problems of the rows that failed, or have another budget."""
    epochs = {text: epochs_of(len(bench.train), wanted.steps) for text, bench in benches.items()}  # prepared once
    work = table.parent

    def problem(name: str) -> str:
        plan = PLANS[name]
        try:
            if "{simulated}" in plan.options:
                simulate(wanted.data / "labels", work)
            train(name, table, work, epochs[plan.prepare], plan, plan.model or name)
        except SystemExit as error:
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            return str(error)
        return ""

    with ThreadPoolExecutor(wanted.jobs) as pool:
        return {name: line for name, line in zip(rows, pool.map(problem, rows), strict=True) if line}


def simulated_slices(work: Path) -> Path:
    return work / "simulated" / "slices.npy"


def simulate(labels: Path, work: Path) -> None:
    """Slices of flat phantoms of the label maps, unless there are some."""
    if not simulated_slices(work).exists():
        uadtk("phantom", "-o", str(simulated_slices(work).parent), "--labels", str(labels), *SIMULATED)


def train(row: str, table: Path, work: Path, epochs: int, plan: Plan, model: str, also: Iterable[object] = ()) -> None:
    """``also``: further words of the command. Raises SystemExit if the row was trained with another budget, or the
    training fails.
    """
    output = work / f"{row}.safetensors"
    shared = (*SHARED, "--slices", work / "slices", "--epochs", epochs, "--patience", epochs)
    prepare = ("--prepare", plan.prepare) if plan.prepare else ()
    places = {"half": max(1, epochs // 2), "simulated": simulated_slices(work)}
    own = [word.format(**places) for word in plan.options.split()]
    command = [*map(str, ("train", model, table, "-o", output, *shared, *prepare, *also)), *own]
    with (work / f"{row}.txt").open("a", encoding="utf-8") as said:
        wait_for(said, row)
        if output.exists() and load(output).training["schedule"]["epochs"] != epochs:
            raise SystemExit(f"{output} was trained for another budget: delete it, or name another folder")
        if finished(output):
            return
        print("+", shlex.join(["uadtk", *command]), file=sys.stderr, flush=True)
        again = ["--overwrite"] if output.exists() else []
        done = subprocess.run([sys.executable, "-m", "uadtk", *command, *again], stdout=said, stderr=subprocess.STDOUT)
    if done.returncode:
        raise SystemExit(f"the training of {row} failed, see {work / row}.txt")


def wait_for(said: TextIO, row: str) -> None:
    """Lock the file, which the training's process inherits, until this process and that one have closed it."""
    try:
        fcntl.flock(said, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"{row} is being trained by another process: waiting", file=sys.stderr, flush=True)
        fcntl.flock(said, fcntl.LOCK_EX)


@dataclass(frozen=True)
class Bench:
    """Training slices, held-out slices, and labelled scans."""

    cohort: Cohort
    work: Path
    preparation: Preparation
    device: str = "cpu"  # of the networks whose detection is measured

    @cached_property
    def train(self) -> Slices:
        return self._load("train", masked=True)

    @cached_property
    def held(self) -> Slices:
        return self._load("validation", masked=True)

    @cached_property
    def labelled(self) -> Cohort:
        return self.cohort.split("validation")

    def _load(self, split: str, masked: bool) -> Slices:
        rows = list(self.cohort.split(split))
        run = Run(say=lambda line: print(line, file=sys.stderr))
        return load_slices(rows, self.preparation, masked, run, f"{split} scans", self.work / "slices")

    @cached_property
    def components(self) -> tuple[Tensor, Tensor]:
        """The mean training slice (P,) and the principal components (P, n - 1) by descending variance.

        Abnormal pixels of a training slice are set to the mean, so that they do not affect the components.
        """
        batch = whole(self.train)
        image, normal = batch.image.flatten(1), batch.normal.flatten(1)
        mean = (image * normal).sum(0) / normal.sum(0).clamp(min=1)
        centred = (image - mean) * normal
        mean, centred = mean + centred.mean(0), centred - centred.mean(0)
        _, vectors = torch.linalg.eigh(centred @ centred.T)
        directions = centred.T @ vectors[:, 1:].flip(1)
        return mean, directions / directions.norm(dim=0).clamp(min=1e-6)

    def pca(self, components: int) -> tuple[Tensor, int]:
        """The held-out slices reconstructed from at most ``components`` components, and the number used."""
        mean, directions = self.components
        directions = directions[:, :components]
        batch = whole(self.held)
        centred = torch.where(batch.normal.flatten(1), batch.image.flatten(1) - mean, 0.0)
        return (mean + centred @ directions @ directions.T).view_as(batch.image), directions.shape[1]

    def row(self, name: str, checkpoint: Checkpoint | None = None) -> list[str]:
        """The cells of ``COLUMNS``, measured with ``checkpoint`` in place of the row's own."""
        path = self.work / f"{name}.safetensors"
        checkpoint = checkpoint or (load(path) if path.exists() else open_checkpoint(name))
        log = read_log(log_path(path)) if log_path(path).exists() else []
        model = checkpoint.build()
        parameters = sum(p.numel() for p in model.parameters()) / 1e6
        minutes = sum(record["seconds"] for record in log) / 60
        cells = [name, f"{parameters:.2f}", str(len(log)), f"{minutes:.1f}", *self._errors(name, model)]
        cells.append(str(checkpoint.scorer))
        for cleaners in (DEFAULT_CLEANERS, (DEFAULT_CLEANERS[0], "prior", *DEFAULT_CLEANERS[1:])):
            cells += [f"{value:.3f}" for value in self.detection(replace(checkpoint, cleaners=parse_all(cleaners)))]
        return cells

    def _errors(self, name: str, model: torch.nn.Module) -> list[str]:
        """Errors of the model, the mean image and PCA: per slice, then inside the brain."""
        if "reconstruct" not in capabilities(model):
            return ["-"] * 6
        scans = np.bincount(self.held.about[:, 0]).tolist()  # the slices of a scan may depend on each other
        batch, (mean, _), (pca, used) = whole(self.held), self.pca(0), self.pca(PLANS[name].z)
        with torch.inference_mode():
            ours = torch.cat([model.reconstruct(x) for x in batch.image.split(scans)])  # type: ignore[operator]
        cells = []
        for error, digits in ((slice_error, 1), (brain_error, 4)):
            of_ours, of_mean, of_pca = (error(batch, rebuilt) for rebuilt in (ours, mean, pca))
            best = of_ours < min(of_mean, of_pca)
            cells += [f"**{of_ours:.{digits}f}**" if best else f"{of_ours:.{digits}f}", f"{of_mean:.{digits}f}"]
            cells.append(f"{of_pca:.{digits}f} ({used})" if used else "-")
        return cells

    def detection(self, checkpoint: Checkpoint) -> tuple[float, float]:
        """AUPRC and ⌈DICE⌉, pooled over the brain voxels of all scans on their own grids."""
        measures = evaluate(checkpoint, self.labelled, None, Run(self.device)).measures
        return measures["auprc"].value, measures["dice_oracle"].value


def whole(slices: Slices) -> Batch:
    return slices.batch(np.arange(len(slices)), "cpu")


def slice_error(batch: Batch, rebuilt: Tensor) -> float:
    """Σ|x - x̂| per slice over normal pixels, including the background."""
    return float(l1(batch.image, rebuilt, batch.normal).mean())


def brain_error(batch: Batch, rebuilt: Tensor) -> float:
    """Mean |x - x̂| over the normal brain pixels."""
    return float((batch.image - rebuilt).abs()[batch.normal & batch.brain].mean())


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
