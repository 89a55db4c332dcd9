"""Part c of `device.py`: trainings in the order of their worth, several at once on one GPU, by `uadtk train`.

First `implant`, as `train_implant.py` trains it, as wide as there is time for; then `scalespace` and `dae` against
implants; then the rows of `train_all.py` on ``lgg`` alone, with equal steps. One training after another takes the next
free place. Rates measured with all places taken decide the width, the epochs and the steps. A training that does not
finish is paused, keeps its weights, and is listed with the epochs that it had.
"""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from _shared import finished
from device_job import Job, Result
from device_pack import unpack
from train_all import BATCH, COLUMNS, PLANS, SHARED, Bench, Plan, epochs_of, is_installed, train
from train_implant import SCHEDULE

from uadtk.checkpoint import load, open_checkpoint
from uadtk.core.preparation import Preparation
from uadtk.core.run import Run
from uadtk.io.cohort import read_cohort
from uadtk.training.logs import log_path, read_log
from uadtk.training.slices import load_slices

IMPLANT = "implant"
COMMON = f"--masked --no-augment --batch {BATCH} --decay cosine --precision bfloat16 --threads 1"
AGAINST = {  # on gliomas and phantoms
    "scalespace-implants": ("scalespace", "--widths 8,16,48 --lowpass 128 --corruption implants --learning-rate 1e-3"),
    "dae-implants": ("dae", "--width 32 --corruption implants --learning-rate 1e-3"),
}
START_S = 10.0  # of a training: imports and CUDA
END_S = 20.0  # after the pause: the epoch that has begun, and what a model concludes from all slices
ENOUGH = 0.5  # of the time, for the steps planned: adversaries take several times as long as the measured models


@dataclass(frozen=True)
class Training:
    """A checkpoint ``name``; ``start`` trains it until it is finished or ``minutes`` have passed."""

    name: str
    start: Callable[[float], None]


def by_worth() -> list[str]:
    """Names of all trainings."""
    return [IMPLANT, *AGAINST, *_rows_of_the_study()]


def _rows_of_the_study() -> list[str]:
    """All but those of 256 pixels or of phantoms, which are not packed."""
    return [name for name, plan in PLANS.items() if not plan.prepare and "{simulated}" not in plan.options]


def rates(job: Job) -> Iterator[Result]:
    """Seconds per step: `ae` alone, then the widths of `implant` and copies of `ae` at the same time."""
    mixed, gliomas = unpack(job.pack, job.models)
    folder = job.work / "rates"
    folder.mkdir(exist_ok=True)
    alone = _rate(job, folder, "ae", gliomas, "ae", SHARED)
    yield {"table": "Rates", "model": "ae", "beside": 0, **alone}
    wide = {f"{IMPLANT}-{width}": (*SCHEDULE, "--width", width) for width in job.sizes.widths}
    copies = [f"ae-{k}" for k in range(max(1, job.sizes.at_once - len(wide)))]
    with ThreadPoolExecutor(job.sizes.at_once) as pool:
        found = {name: pool.submit(_rate, job, folder, name, mixed, IMPLANT, wide[name]) for name in wide}
        found |= {name: pool.submit(_rate, job, folder, name, gliomas, "ae", SHARED) for name in copies}
        for name, rate in found.items():
            yield {"table": "Rates", "model": name, "beside": len(found) - 1, **rate.result()}


def _rate(job: Job, folder: Path, name: str, table: Path, model: str, own: Sequence[object]) -> Result:
    """Two epochs, of which the second counts."""
    output = folder / f"{name}.safetensors"
    options = [*own, "--epochs", 2, "--patience", 2, "--overwrite"]
    uadtk(job, "train", model, table, "-o", output, *options)
    log, facts = read_log(log_path(output)), load(output).training
    steps = max(1, facts["slices"]["train"] // BATCH)
    return {"steps per epoch": steps, "ms per step": log[-1]["seconds"] / steps * 1e3}


def uadtk(job: Job, *words: object) -> None:
    """A command on the packed slices. Raises RuntimeError with the end of what it printed if it fails."""
    output = Path(str(words[words.index("-o") + 1]))
    command = [sys.executable, "-m", "uadtk", *map(str, words), "--slices", str(job.models / "slices")]
    with output.with_suffix(".txt").open("w+", encoding="utf-8") as printed:
        done = subprocess.run(command, stdout=printed, stderr=subprocess.STDOUT, check=False)
        printed.seek(0)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command[2:])} failed: {printed.read()[-1500:]}")


@dataclass(frozen=True)
class Budget:
    width: int
    epochs: int  # of `implant`
    steps: int  # of each other training


def budget(job: Job) -> Budget:
    """The widest `implant` that gets enough epochs, and as many steps for the others as fit beside it."""
    measured = {row["model"]: row for row in job.before if row["table"] == "Rates" and row["beside"]}
    time_s = max(1.0, job.left_s() - START_S - END_S)
    width, epochs = job.sizes.widths[-1], job.sizes.least_epochs
    for wider in job.sizes.widths:
        if row := measured.get(f"{IMPLANT}-{wider}"):
            epoch_s = row["ms per step"] / 1e3 * row["steps per epoch"]
            width, epochs = wider, max(1, min(job.sizes.most_epochs, math.floor(0.9 * time_s / epoch_s)))
            if epochs >= job.sizes.least_epochs:
                break
    others = [row["ms per step"] / 1e3 for name, row in measured.items() if name.startswith("ae")]
    step_s = sum(others) / len(others) if others else 0.05
    places, trainings = max(1, job.sizes.at_once - 1), len(by_worth()) - 1
    fitting = math.floor(ENOUGH * (time_s * places / trainings - START_S) / step_s)
    return Budget(width, epochs, job.steps or min(job.sizes.most_steps, max(1, fitting)))


def trainings(job: Job) -> Iterator[Result]:
    plan = budget(job)
    yield {"table": "Plan", "width of implant": plan.width, "its epochs": plan.epochs, "--steps": plan.steps}
    with ThreadPoolExecutor(job.sizes.at_once) as pool:
        running = {pool.submit(_timed, job, training): training for training in planned(job, plan)}
        for future in as_completed(running):
            yield {"table": "Trainings", "model": running[future].name, **future.result()}


def planned(job: Job, plan: Budget) -> Iterator[Training]:
    mixed, gliomas = unpack(job.pack, job.models)
    folder = job.models
    slices = _number_of_slices(job)

    def own(name: str, model: str, options: Sequence[object], epochs: int) -> Training:
        output = folder / f"{name}.safetensors"
        average = max(1, epochs // 3)
        long = ("--epochs", epochs, "--patience", epochs, "--average", average)

        def start(minutes: float) -> None:
            again = ("--overwrite",) if output.exists() else ()
            uadtk(job, "train", model, mixed, "-o", output, *options, *long, "--minutes", minutes, *again)

        return Training(name, start)

    yield own(IMPLANT, IMPLANT, (*SCHEDULE, "--width", plan.width), plan.epochs)
    for name, (model, options) in AGAINST.items():
        if is_installed(model):
            yield own(name, model, (*COMMON.split(), *options.split()), epochs_of(slices[mixed], plan.steps))
    rows = [name for name in _rows_of_the_study() if is_installed(PLANS[name].model or name)]
    for name in rows[: job.sizes.most_models]:
        yield _row(name, gliomas, job, epochs_of(slices[gliomas], plan.steps))


def _row(name: str, table: Path, job: Job, epochs: int) -> Training:
    row: Plan = PLANS[name]

    def start(minutes: float) -> None:
        train(name, table, job.models, epochs, row, row.model or name, ("--minutes", minutes))

    return Training(name, start)


def _number_of_slices(job: Job) -> dict[Path, int]:
    """Of the training slices of both tables."""
    found = {}
    for table in unpack(job.pack, job.models):
        rows = list(read_cohort(table).split("train"))
        found[table] = len(load_slices(rows, Preparation(), True, Run(), "training scans", job.models / "slices"))
    return found


def _timed(job: Job, training: Training) -> Result:
    """What became of it; an error is a result, and the next training takes the place."""
    output = job.models / f"{training.name}.safetensors"
    if finished(output):
        return {"state": "finished before"}
    start, left = time.monotonic(), job.left_s() - START_S - END_S
    if left <= 0:
        return {"state": "no time left"}
    try:
        training.start(left / 60)
    except (Exception, SystemExit) as error:
        return {"state": f"failed: {error}"[:2000]}
    log, facts = read_log(log_path(output)), load(output).training
    row: Result = {"state": "finished" if facts["finished"] else "paused", "epochs": len(log)}
    row |= {"of": facts["schedule"]["epochs"], "minutes": (time.monotonic() - start) / 60}
    return {**row, "best validation loss": facts["best_validation_loss"], "MB": output.stat().st_size / 1e6}


def models(job: Job) -> Iterator[Result]:
    """Every checkpoint that there is, on the ``lgg`` validation scans; those left over are measured at home."""
    _, gliomas = unpack(job.pack, job.models)
    bench = Bench(read_cohort(gliomas), job.models, Preparation(), job.device)
    title = "AUPRC on lgg validation, with a model's own cleaners"
    for name in ("histeq", *by_worth()):
        path = job.models / f"{name}.safetensors"
        if name != "histeq" and not path.exists():
            continue
        try:
            if name in PLANS:
                yield {"table": "Rows of the study", **dict(zip(COLUMNS, bench.row(name), strict=True))}
            else:
                auprc, dice = bench.detection(load(path) if path.exists() else open_checkpoint(name))
                yield {"table": title, "model": name, "AUPRC": auprc, "⌈DICE⌉": dice}
        except Exception as error:  # the next model is measured all the same
            yield {"table": "Not measured", "model": name, "error": f"{type(error).__name__}: {error}"}
