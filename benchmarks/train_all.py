"""Train every model on the glioma scans, and measure what each has learned.

    python benchmarks/train_all.py ../shared/data build/models                    # the real runs: hours on two cores
    python benchmarks/train_all.py ../shared/data build/models --smoke            # one epoch each: minutes
    python benchmarks/train_all.py ../shared/data build/models --models vae ae    # some of them

Trains on ``lgg`` train, known lesions and 6 mm around them excluded from the loss, and stops on ``lgg`` validation.
Each training is a uadtk command, printed first; existing checkpoints are not trained again, and interrupted trainings
resume. Installed plugins are included. The printed table has, per model,

* the error on held-out slices (``lgg`` validation; known lesions and 6 mm around them excluded), compared with the mean
  training slice and with PCA of the training slices with as many components as the model has latent dimensions:
  Σ|x - x̂| per slice, the loss of most models, and the mean |x - x̂| inside the brain;
* AUPRC and ⌈DICE⌉ (an oracle) on ``lgg`` validation, of the positive residual (or the model's own score) with the
  default cleaners, and of the same times the intensity rank (``prior``), compared with the no-learning ``histeq``.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from _shared import gliomas
from torch import Tensor

from uadtk.checkpoint import Checkpoint, load, new, open_checkpoint, pack
from uadtk.core.errors import UsageError
from uadtk.core.model import DEFAULT_CLEANERS, Batch, capabilities
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.core.spec import parse_all
from uadtk.io.cohort import Cohort, read_cohort
from uadtk.io.table import write_cohort
from uadtk.networks.distances import l1
from uadtk.pipeline.evaluate import evaluate
from uadtk.training.logs import log_path, read_log
from uadtk.training.slices import Slices, load_slices

SHARED = "--masked --batch 16 --learning-rate 3e-4 --decay cosine --precision bfloat16 --threads 1".split()  # noqa: SIM905


@dataclass(frozen=True)
class Plan:
    """``epochs`` of the real run, options besides ``SHARED``, and the dimension of z."""

    epochs: int
    options: str = ""
    z: int = 128


SPATIAL = 128 * 8 * 8
PLANS = {
    "vae": Plan(26, "--dropout 0"),
    "context-vae": Plan(16),
    "ae-spatial": Plan(20, z=SPATIAL),
    "skip-ae": Plan(20, z=SPATIAL),
    "fanogan": Plan(18, "--gan-epochs 8 --critic-steps 3"),
    "scalespace": Plan(30, "--widths 8,16,48 --lowpass 128 --noise 0.3", z=3 * SPATIAL + 128),
    "ae": Plan(25),
    "context-ae": Plan(12),
    "constrained-ae": Plan(8),
    "gmvae": Plan(20),
    "gmvae-spatial": Plan(12, "--dim-z 8", z=8 * 64),
    "aae": Plan(8, "--warm-up 2 --critic-steps 5"),
    "constrained-aae": Plan(5, "--warm-up 2 --critic-steps 5"),
    "anovaegan": Plan(3, "--critic-steps 3"),
    "anogan": Plan(0, "--steps 100"),  # uses the GAN of f-AnoGAN's first stage, which is not trained twice
    "steganomaly": Plan(1, "--width 16 --blocks 3", z=0),
    "ocsvm": Plan(8),
    "dae": Plan(10, "--width 32", z=0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--models", nargs="+", choices=PLANS, default=list(PLANS))
    parser.add_argument("--smoke", action="store_true", help="one epoch per model")
    parser.add_argument("--jobs", type=int, default=1, help="parallel trainings, one thread each")
    parser.add_argument("-o", "--output", type=Path, help="also write the table to this file")
    arguments = parser.parse_args()
    work: Path = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    table = work / "lgg.tsv"
    write_cohort(table, gliomas(arguments.data.resolve()))
    wanted = [name for name in arguments.models if is_installed(name)]
    bench = Bench(read_cohort(table), work)
    _ = bench.train  # prepare once, before the trainings
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(lambda name: train(name, table, work, arguments.smoke), wanted))
    lines = [
        f"`python {shlex.join(sys.argv)}`",
        f"({len(bench.train)} training slices of {bench.train.subjects} scans, {len(bench.held)} held-out slices, "
        f"AUPRC on {len(bench.labelled)} scans)",
        "",
        "| model | parameters, M | epochs | minutes | Σ abs. error per slice | mean image | PCA (components) |"
        " mean abs. error in the brain | mean image | PCA | AUPRC | ⌈DICE⌉ | AUPRC, prior | ⌈DICE⌉, prior |",
        "|" + "---|" * 14,
    ]
    for name in [*wanted, "histeq"]:
        lines.append(bench.row(name))
        print(lines[-1], file=sys.stderr, flush=True)
    print("\n".join(lines))
    if arguments.output:
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


def is_installed(name: str) -> bool:
    from uadtk import registry

    try:
        registry.find("models", name)
    except UsageError:
        print(f"{name}: not installed, skipped (pip install plugins/uadtk-{name})", file=sys.stderr)
        return False
    return True


def train(name: str, table: Path, work: Path, smoke: bool) -> None:
    output = work / f"{name}.safetensors"
    if output.exists() and load(output).training.get("finished"):
        return
    if name == "anogan":
        borrow_gan(work / "fanogan.safetensors", output)
        return
    plan = PLANS[name]
    epochs = ["--epochs", "1"] if smoke else ["--epochs", str(plan.epochs), "--patience", str(plan.epochs)]
    options = plan.options.replace("--gan-epochs 8", "--gan-epochs 1") if smoke else plan.options
    command = ["train", name, table, "-o", output, "--slices", work / "slices", *SHARED, *epochs, *options.split()]
    words = [
        str(Path(sys.executable).parent / "uadtk"),
        *map(str, command),
        *(["--overwrite"] if output.exists() else []),
    ]
    print("+", shlex.join(["uadtk", *map(str, command)]), file=sys.stderr, flush=True)
    with (work / f"{name}.txt").open("w", encoding="utf-8") as said:
        subprocess.run(words, check=True, stdout=said, stderr=subprocess.STDOUT)


def borrow_gan(fanogan: Path, output: Path) -> None:
    """AnoGAN with the generator and critic of a trained f-AnoGAN, whose first stage is the training of AnoGAN."""
    if not fanogan.exists():
        raise SystemExit("anogan uses the GAN of fanogan: train fanogan first")
    trained = load(fanogan)
    options = {"steps": 100, "latent": trained.options["latent"]}
    fresh = new("anogan", options, trained.preparation, cleaners=trained.cleaners)
    model = fresh.new_model()
    own = model.state_dict()
    model.load_state_dict({name: tensor for name, tensor in trained.build().state_dict().items() if name in own})
    facts = {**trained.training, "gan_of": trained.digest}
    replace(fresh, weights=pack(model), training=facts, source=str(output)).save(output)


@dataclass(frozen=True)
class Bench:
    """Training slices, held-out slices, and labelled scans."""

    cohort: Cohort
    work: Path

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
        return load_slices(rows, Preparation(), masked, run, f"{split} scans", self.work / "slices")

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

    def row(self, name: str) -> str:
        path = self.work / f"{name}.safetensors"
        checkpoint = load(path) if path.exists() else open_checkpoint(name)
        log = read_log(log_path(path)) if log_path(path).exists() else []
        model = checkpoint.build()
        parameters = sum(p.numel() for p in model.parameters()) / 1e6
        minutes = sum(record["seconds"] for record in log) / 60
        cells = [name, f"{parameters:.2f}", str(len(log)), f"{minutes:.1f}", *self._errors(name, model)]
        for cleaners in (DEFAULT_CLEANERS, (DEFAULT_CLEANERS[0], "prior", *DEFAULT_CLEANERS[1:])):
            cells += [f"{value:.3f}" for value in self._detection(replace(checkpoint, cleaners=parse_all(cleaners)))]
        return f"| {' | '.join(cells)} |"

    def _errors(self, name: str, model: torch.nn.Module) -> list[str]:
        """Errors of the model, the mean image and PCA: per slice, then inside the brain."""
        if "reconstruct" not in capabilities(model):
            return ["-"] * 6
        batch, (mean, _), (pca, used) = whole(self.held), self.pca(0), self.pca(PLANS[name].z)
        with torch.inference_mode():
            ours = torch.cat([model.reconstruct(x) for x in batch.image.split(32)])  # type: ignore[operator]
        cells = []
        for error, digits in ((slice_error, 1), (brain_error, 4)):
            of_ours, of_mean, of_pca = (error(batch, rebuilt) for rebuilt in (ours, mean, pca))
            best = of_ours < min(of_mean, of_pca)
            cells += [f"**{of_ours:.{digits}f}**" if best else f"{of_ours:.{digits}f}", f"{of_mean:.{digits}f}"]
            cells.append(f"{of_pca:.{digits}f} ({used})" if used else "-")
        return cells

    def _detection(self, checkpoint: Checkpoint) -> tuple[float, float]:
        """Pooled over the brain voxels of all scans on their own grids."""
        measures = evaluate(checkpoint, self.labelled, None, Run()).measures
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
