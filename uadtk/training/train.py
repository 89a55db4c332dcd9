"""The training loop.

An epoch depends only on the weights, the optimiser states, the seed and the epoch number. All of these are stored in
``<output>.resume`` after each epoch, so an interrupted training resumes bit-identically.
"""

from __future__ import annotations

import datetime as dt
import math
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from uadtk import registry
from uadtk.checkpoint import STATISTICS, Checkpoint, pack
from uadtk.core.errors import UadtkError, UsageError
from uadtk.core.model import Batch, Turn, capabilities, traits
from uadtk.core.options import Field, fields, option
from uadtk.core.run import Run
from uadtk.io.cohort import Cohort, refuse_copies
from uadtk.networks.arithmetic import fast_bfloat16
from uadtk.networks.augment import augmented
from uadtk.networks.corruption import with_lesions
from uadtk.networks.memory import keep_memory
from uadtk.networks.seeded import seeded
from uadtk.pipeline.run import duration
from uadtk.preparation.gate import statistics_of
from uadtk.training.batches import steps_of_epoch
from uadtk.training.contamination import inliers, pushing_apart, trimmed
from uadtk.training.logs import write_log
from uadtk.training.optimisers import (
    Optimisers,
    judged_from,
    learns_labels,
    learns_to_remove,
    make_optimisers,
    take_turns,
    turns_of,
)
from uadtk.training.parallel import World, joined
from uadtk.training.resume import State, averaged, forget, judged, load_state, save_state, state_path
from uadtk.training.slices import Slices, load_slices, split_rows, to_judge, to_learn
from uadtk.training.statistics import usual_contrast
from uadtk.version import VERSION

VALIDATION_SEED = 2**31
# Options of `uadtk train` besides the schedule; no model may have an option of the same name.
RESERVED = (
    *("cohort", "output", "prepare", "scorer", "cleaner", "minutes", "slices", "device", "threads", "jobs", "cluster"),
    *("folds", "fold_by", "log_to", "force", "overwrite"),
)


@dataclass(frozen=True)
class Schedule:
    """Training hyperparameters; the defaults are those of the comparative study."""

    epochs: int = option(1000, "At most this many passes over the slices.", ge=1)
    patience: int = option(5, "Stop after this many epochs without a lower validation loss.", ge=1)
    average: int = option(
        0, "Average the weights over this many of the last epochs; 0 takes those of the best epoch.", ge=0
    )
    batch: int = option(8, "Slices per step.", ge=1)
    accumulate: int = option(1, "Gradient accumulation: compute each batch in this many parts, to save memory.", ge=1)
    learning_rate: float = option(1e-4, "Adam's learning rate.", ge=1e-8, le=1)
    decay: Literal["none", "cosine"] = option("none", "Learning rate: constant, or warm-up and then cosine decay.")
    precision: Literal["float32", "bfloat16"] = option("float32", "Arithmetic of the forward pass.")
    augment: bool = option(True, "Augment slices: flips, small rotations, shifts, scalings and changes of contrast.")
    corruption: Literal["none", "implants"] = option(
        "none", "What the model learns to remove: nothing, or lesions implanted into randomised slices."
    )
    masked: bool = option(False, "Learn from all slices, and leave known lesions out of the loss.")
    trim: float = option(
        100.0, "Leave errors above this percentile of a batch out of the loss (You et al.: 98).", ge=1, le=100
    )
    discriminate: float = option(0.0, "Weight of discriminative reconstruction (Xia et al.: 0.1); 0 is off.", ge=0)
    trust: int = option(5, "Epochs before trimming or discriminating: errors of an untrained model mean nothing.", ge=0)
    seed: int = option(0, "Seed of weights, order of slices and noise.", ge=0, le=2**32 - 1)


def schedule_options(own: type) -> list[Field]:
    """The options of the schedule, without ``corruption`` if the model's options (``own``) have one."""
    return [one for one in fields(Schedule) if one.name != "corruption" or not hasattr(own, one.name)]


def settings_of(schedule: Schedule) -> dict[str, Any]:
    """The schedule as stored in states and checkpoints: without ``corruption="none"``, which older ones do not name."""
    return {name: value for name, value in asdict(schedule).items() if (name, value) != ("corruption", "none")}


def train(
    checkpoint: Checkpoint,
    cohort: Cohort,
    schedule: Schedule,
    output: Path,
    run: Run,
    minutes: float | None = None,
    cache: Path | None = None,
) -> Checkpoint:
    """Train ``checkpoint.model`` and save it to ``output``.

    The weights are those of the best validation loss, or the mean over the last epochs (``schedule.average``).

    ``minutes``: pause after this long; the current weights and the state are saved, and the same command resumes.
    ``cache``: folder for prepared slices, which other trainings can share; without it they are stored beside the output
    until the training has finished. Under ``torchrun`` each process takes its share of every batch.

    Raises
    ------
    UsageError
        The model has nothing to train, or ``output`` belongs to a training with other options.
    UadtkError
        The loss is not finite; the state after the previous epoch is kept.
    """
    with joined(run) as world:
        own = run if world.leads else Run(run.device, worst=run.worst)
        return _train(checkpoint, cohort, schedule, output, own, minutes, cache, world)


def _train(
    checkpoint: Checkpoint,
    cohort: Cohort,
    schedule: Schedule,
    output: Path,
    run: Run,
    minutes: float | None,
    cache: Path | None,
    world: World,
) -> Checkpoint:
    loggers = {name: registry.load("loggers", name) for name in run.log_to}
    refuse_copies(cohort)
    plan = {"model": checkpoint.header()["model"], "preparation": checkpoint.header()["preparation"]}
    plan |= {"schedule": settings_of(schedule), "cohort": cohort.digest()}
    keep_memory()
    with seeded(schedule.seed):
        model: Any = checkpoint.new_model()
    check_trainable(model, checkpoint, schedule, world)
    model.to(run.device, memory_format=torch.channels_last)
    optimisers = make_optimisers(model, schedule.learning_rate)
    state = load_state(output, plan, model, optimisers)
    if schedule.precision == "bfloat16" and not fast_bfloat16(torch.device(run.device)):
        run.say("bfloat16 is slower than float32 here: this machine emulates it")
    if state.log:
        run.say(f"resuming after epoch {len(state.log)}")
        if world.leads:
            write_log(output, state.log)  # a kill may have come before it
    if schedule.epochs < judged_from(model) < math.inf:
        first = f"the first whose validation loss counts ({judged_from(model):g})"
        run.say(f"{schedule.epochs} epochs end before {first}: the last weights are kept")
    slices, held = _slices(checkpoint, model, cohort, schedule, cache or _cache_beside(output), run, world)
    state = _on_the_same_scans(state, slices, held, output)

    deadline = time.monotonic() + 60 * minutes if minutes else math.inf
    while optimisers and not _finished(state, schedule):
        if state.log and world.agreed(time.monotonic() >= deadline):
            break
        epoch, start = len(state.log) + 1, time.monotonic()
        with seeded(hash((schedule.seed, epoch, world.rank)) % 2**31):
            train_losses = _train_epoch(model, optimisers, slices, schedule, epoch, run, world)
        with seeded(VALIDATION_SEED):
            losses = _mean_losses(model, held, schedule, run.device, world)
        if not all(map(math.isfinite, (*train_losses.values(), losses["loss"]))):
            raise UadtkError(
                f"the loss is not finite in epoch {epoch}",
                str(output),
                "The state of the epoch before is kept; try a lower --learning-rate.",
            )
        record = {"epoch": epoch, **{f"train_{k}": v for k, v in train_losses.items()}}
        record |= {f"validation_{k}": v for k, v in losses.items()}
        record |= {"learning_rate": _learning_rate(schedule, epoch), "seconds": round(time.monotonic() - start, 2)}
        state = judged(state, model, record, judged_from(model))
        state = averaged(state, model, schedule.epochs - schedule.average)
        if world.leads:
            save_state(output, plan, model, optimisers, state)
            write_log(output, state.log)
            run.say(f"{_line(record, state)}  {_left(state, schedule)}")
            registry.notify("uadtk_epoch_done", run.say, loggers, record=record, output=output, settings=plan)

    finished = not optimisers or _finished(state, schedule)
    model.load_state_dict(state.mean or state.best or model.state_dict())
    if conclude := traits(model).conclude:
        model.eval()
        with torch.no_grad(), seeded(schedule.seed):
            conclude(_in_order(slices, schedule.batch, run.device))
    facts = _facts(cohort, schedule, state, slices, held, run, finished)
    trained = replace(checkpoint, weights=pack(model), training={**checkpoint.training, **facts}, source=str(output))
    if world.leads:
        trained.save(output)
        if finished:
            shutil.rmtree(_cache_beside(output), ignore_errors=True)
            forget(output)  # last: while the state is there, the same command ends what was interrupted
    return trained


def _facts(
    cohort: Cohort, schedule: Schedule, state: State, slices: Slices, held: Slices, run: Run, finished: bool
) -> dict[str, Any]:
    """What the checkpoint records of its training."""
    facts = {
        "date": dt.date.today().isoformat(),
        "uadtk": VERSION,
        "schedule": settings_of(schedule),
        "epochs": len(state.log),
        "best_epoch": state.best_epoch,
        "best_validation_loss": state.log[state.best_epoch - 1]["validation_loss"] if state.log else None,
        "finished": finished,
        "slices": {"train": len(slices), "validation": len(held)},
        "scans": {"train": slices.scans, "validation": held.scans},
        "gate": {"train": _lights(slices), "validation": _lights(held), "worst": run.worst},
        "cohort_digest": cohort.digest(),
    }
    if finished:
        facts[STATISTICS] = statistics_of([gate["measured"] for gate in slices.gates])
    return facts


def check_trainable(model: Any, checkpoint: Checkpoint, schedule: Schedule, world: World) -> None:
    """Raises UsageError if the model cannot be trained, or not with this schedule."""
    name = checkpoint.model
    if "training_loss" not in capabilities(model) and not traits(model).conclude:
        raise UsageError(f"model '{name}' learns nothing", fix="Use it by name: --model " + name)
    if (schedule.trim < 100 or schedule.discriminate) and "reconstruct" not in capabilities(model):
        raise UsageError(f"model '{name}' does not reconstruct", "--trim, --discriminate", "They go by its errors.")
    own_mm, field_mm = checkpoint.options.get("field_mm"), checkpoint.preparation.field_mm
    if own_mm not in (None, field_mm):
        what = f"slices of {field_mm:g} mm for a model that takes them to have {own_mm:g} mm"
        raise UsageError(what, "--prepare, --field-mm", f"Add --field-mm {field_mm:g}.")
    if schedule.corruption != "none" and not learns_to_remove(model, checkpoint.preparation.pixels):
        what = f"model '{name}' does not learn to reconstruct a slice from another"
        raise UsageError(what, f"--corruption {schedule.corruption}")
    if schedule.batch < schedule.accumulate * world.size:
        parts = f"{schedule.accumulate} parts on {world.size} processes"
        raise UsageError(f"a batch of {schedule.batch} slices cannot be shared out to {parts}", "--batch")


def _slices(
    checkpoint: Checkpoint, model: Any, cohort: Cohort, schedule: Schedule, cache: Path, run: Run, world: World
) -> tuple[Slices, Slices]:
    """Training and validation slices; other processes wait until process 0 has prepared them."""
    if not world.leads:
        world.wait()
    rows, held_rows = split_rows(cohort, schedule.seed)
    unmarked = [r for r in rows if not (r.lesion_mask or r.presumed_healthy or r.lesion_free_slices)]
    if unmarked and not learns_labels(model):
        run.say(f"{len(unmarked)} scans of patients without a lesion mask: all their slices are taken as normal")
    if learns_labels(model):
        rows, held_rows = to_learn(rows, traits(model).unlabelled), to_judge(held_rows)
    usual = usual_contrast(rows, run)
    masked, neighbours = schedule.masked or learns_labels(model), traits(model).neighbours
    slices, held = (
        replace(load_slices(part, checkpoint.preparation, masked, run, what, cache, usual), neighbours=neighbours)
        for part, what in ((rows, "training scans"), (held_rows, "validation scans"))
    )
    if world.leads:
        world.wait()
    run.say(f"{len(slices)} slices of {slices.scans} scans to train on, {len(held)} of {held.scans} to validate")
    return slices, held


def _lights(slices: Slices) -> dict[str, int]:
    """How many scans the gate let pass, by its light."""
    return dict(Counter(gate["light"] for gate in slices.gates))


def _on_the_same_scans(state: State, slices: Slices, held: Slices, output: Path) -> State:
    """The state, with the scans that failed. Raises UsageError if other scans had failed when the training began."""
    failed = (*slices.failed, *held.failed)
    if state.log and state.failed != failed:
        changed = ", ".join(sorted(set(state.failed) ^ set(failed)))
        raise UsageError(
            f"an interrupted training on other scans is here: {changed} could be used then and not now, or the reverse",
            str(state_path(output)),
            "Restore these scans to resume, or delete the file to start again.",
        )
    return replace(state, failed=failed)


def _cache_beside(output: Path) -> Path:
    return output.with_name(output.name + ".slices")


def _finished(state: State, schedule: Schedule) -> bool:
    return len(state.log) >= schedule.epochs or state.waited >= schedule.patience


def _learning_rate(schedule: Schedule, passed: float) -> float:
    """Learning rate after ``passed`` epochs. Cosine: linear warm-up during the first, then decay to 2 % at the last."""
    if schedule.decay == "none":
        return schedule.learning_rate
    left = 0.5 * (1 + math.cos(math.pi * passed / schedule.epochs))
    return schedule.learning_rate * min(1.0, passed + 0.01) * (0.02 + 0.98 * left)


def _train_epoch(
    model: Any,
    optimisers: Optimisers,
    slices: Slices,
    schedule: Schedule,
    epoch: int,
    run: Run,
    world: World,
) -> dict[str, float]:
    """One pass in a random order; returns mean losses."""
    model.train()
    steps = steps_of_epoch(slices, schedule.batch, learns_labels(model), schedule.seed, epoch)
    sums: dict[str, float] = {}
    for step, rows in enumerate(run.track(steps, f"epoch {epoch}")):
        for optimiser in optimisers.values():
            optimiser.param_groups[0]["lr"] = _learning_rate(schedule, epoch - 1 + step / len(steps))
        batch = slices.batch(world.share(rows), run.device)
        batch = augmented(batch) if schedule.augment else batch
        batch = with_lesions(batch, learning=True) if schedule.corruption == "implants" else batch
        turns, batch = _decontaminated(model, turns_of(model, epoch), batch, schedule, epoch)
        share = len(world.share(rows)) / len(rows)
        turns = [turn_at_precision(turn, schedule) for turn in turns]
        total = world.total if world.size > 1 else None
        for name, value in take_turns(turns, optimisers, _parts(batch, schedule), share, total).items():
            sums[name] = sums.get(name, 0.0) + share * float(value)
    return {name: value / len(steps) for name, value in world.total_of(sums, run.device).items()}


def _decontaminated(
    model: Any, turns: Sequence[Turn], batch: Batch, schedule: Schedule, epoch: int
) -> tuple[Sequence[Turn], Batch]:
    """Apply trimming or discriminative reconstruction, if the schedule asks for it and its warm-up is over."""
    if epoch <= schedule.trust:
        return turns, batch
    if schedule.trim < 100:
        batch = trimmed(model, batch, schedule.trim)
    if not schedule.discriminate:
        return turns, batch
    first, *others = turns
    return [pushing_apart(model, batch, first, schedule.discriminate), *others], inliers(model, batch)


def _parts(batch: Batch, schedule: Schedule) -> list[Batch]:
    """The batch split into parts of nearly equal size."""
    n = schedule.accumulate
    pieces = [batch.each(lambda tensor, k=k: tensor.tensor_split(n)[k]) for k in range(n)]  # type: ignore[misc]
    return [piece for piece in pieces if len(piece.image)]


@torch.no_grad()
def _mean_losses(model: Any, slices: Slices, schedule: Schedule, device: str, world: World) -> dict[str, float]:
    model.eval()
    loss = _at_precision(model.training_loss, schedule)
    sums: dict[str, float] = {}
    for batch in _in_order(slices, schedule.batch, device, world):
        batch = with_lesions(batch, learning=False) if schedule.corruption == "implants" else batch
        for name, value in loss(batch).items():
            sums[name] = sums.get(name, 0.0) + float(value) * len(batch.image)
    return {name: value / len(slices) for name, value in world.total_of(sums, device).items()}


def _in_order(slices: Slices, size: int, device: str, world: World | None = None) -> Iterator[Batch]:
    """All slices in batches; with several processes, this process's share."""
    rows = (world or World()).share(np.arange(len(slices)))
    for start in range(0, len(rows), size):
        yield slices.batch(rows[start : start + size], device)


def turn_at_precision(turn: Turn, schedule: Schedule) -> Turn:
    once = turn.once and _at_precision(turn.once, schedule)
    return replace(turn, loss=_at_precision(turn.loss, schedule), once=once)


def _at_precision(compute: Callable[..., Any], schedule: Schedule) -> Callable[..., Any]:
    """Enter autocast for each batch: within one context it would reuse casts of weights that have since changed."""
    if schedule.precision == "float32":
        return compute

    def reduced(batch: Batch, *others: Any) -> Any:
        with torch.autocast(batch.image.device.type, dtype=torch.bfloat16):
            return compute(batch, *others)

    return reduced


def _left(state: State, schedule: Schedule) -> str:
    """The time that the remaining epochs take at most: early stopping may end the training sooner."""
    recent = [record["seconds"] for record in state.log[-5:]]
    left_s = (schedule.epochs - len(state.log)) * sum(recent) / len(recent)
    return f"at most {duration(left_s)} left" if left_s else "last epoch"


def _line(record: dict[str, Any], state: State) -> str:
    """One line about an epoch: the loss, or the losses of all players."""
    losses = {key.removeprefix("train_"): value for key, value in record.items() if key.startswith("train_")}
    shown = f"{losses['loss']:.5g}" if "loss" in losses else ", ".join(f"{name} {v:.4g}" for name, v in losses.items())
    best = "best" if state.best_epoch == record["epoch"] else f"best {state.best_loss:.5g} in epoch {state.best_epoch}"
    both = f"train {shown}  validation {record['validation_loss']:.5g}"
    return f"epoch {record['epoch']:4d}  {both}  ({best})  {record['seconds']:.1f} s"
