"""Training: one loop that reads from top to bottom.

An epoch depends on nothing but the weights, the optimiser's state, the seed and its number, so an interrupted training
continues bit for bit: after each epoch all of that is in ``<output>.resume`` beside the output.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

import uadtk
from uadtk import registry
from uadtk.checkpoint import SUFFIX, Checkpoint, pack
from uadtk.core.errors import UadtkError, UsageError
from uadtk.core.model import Batch, capabilities
from uadtk.core.options import option
from uadtk.core.run import Run
from uadtk.io.cohort import Cohort
from uadtk.io.write import write_text
from uadtk.networks.augment import augmented
from uadtk.networks.memory import keep_memory
from uadtk.networks.seeded import seeded
from uadtk.pipeline.resume import State, forget, load_state, save_state
from uadtk.pipeline.slices import Slices, load_slices, split_rows

VALIDATION_SEED = 2**31


@dataclass(frozen=True)
class Schedule:
    """How to train; the defaults are the comparative study's."""

    epochs: int = option(1000, "At most this many passes over the slices.", ge=1)
    patience: int = option(5, "Stop after this many epochs without a lower validation loss.", ge=1)
    batch: int = option(8, "Slices per step.", ge=1)
    learning_rate: float = option(1e-4, "Adam's learning rate.", ge=1e-8, le=1)
    decay: Literal["none", "cosine"] = option("none", "Learning rate: as it is, or up for an epoch and then down.")
    precision: Literal["float32", "bfloat16"] = option("float32", "Arithmetic of the forward pass.")
    augment: bool = option(True, "Flip, rotate, shift, resize and change the contrast a little.")
    masked: bool = option(False, "Learn from all slices with known lesions left out of the loss.")
    seed: int = option(0, "Decides weights, order and noise.", ge=0)


def train(
    checkpoint: Checkpoint, cohort: Cohort, schedule: Schedule, output: Path, run: Run, minutes: float | None = None
) -> Checkpoint:
    """Train ``checkpoint.model`` and save it, with the weights of the best validation loss, to ``output``.

    ``minutes`` ends training early; what was reached is saved and the state is kept, so that the same command goes on.

    Raises
    ------
    UsageError
        The model has nothing to train, or ``output`` belongs to a training with other options.
    UadtkError
        The loss is not finite; the state of the last good epoch is kept.
    """
    log_path = output.with_name(output.name.removesuffix(SUFFIX) + ".log.jsonl")
    plan = {"model": checkpoint.header()["model"], "preparation": checkpoint.header()["preparation"]}
    plan |= {"schedule": asdict(schedule), "cohort": cohort.digest()}
    keep_memory()
    with seeded(schedule.seed):
        model: Any = checkpoint.new_model()
    if "training_loss" not in capabilities(model):
        raise UsageError(
            f"model '{checkpoint.model}' learns nothing", fix="Use it by name: --model " + checkpoint.model
        )
    model.to(run.device, memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(
        model.parameters(), lr=schedule.learning_rate, betas=getattr(model, "betas", (0.5, 0.999))
    )
    state = load_state(output, plan, model, optimiser)
    if state.log:
        run.say(f"resuming after epoch {len(state.log)}")

    rows, held_rows = split_rows(cohort, schedule.seed)
    slices = load_slices(rows, checkpoint.preparation, schedule.masked, run, "training scans")
    held = load_slices(held_rows, checkpoint.preparation, schedule.masked, run, "validation scans")
    run.say(f"{len(slices)} slices of {slices.subjects} scans to train on, {len(held)} of {held.subjects} to validate")

    deadline = time.monotonic() + 60 * minutes if minutes else math.inf
    while len(state.log) < schedule.epochs and state.waited < schedule.patience:
        if state.log and time.monotonic() >= deadline:
            break
        epoch, start = len(state.log) + 1, time.monotonic()
        with seeded(hash((schedule.seed, epoch)) % 2**31):
            train_loss = _train_epoch(model, optimiser, slices, schedule, epoch, run)
        with seeded(VALIDATION_SEED):
            losses = _mean_losses(model, held, schedule, run.device)
        if not math.isfinite(train_loss) or not math.isfinite(losses["loss"]):
            raise UadtkError(
                f"the loss is not finite in epoch {epoch}",
                str(output),
                "The state of the epoch before is kept; try a lower --learning-rate.",
            )
        record = {"epoch": epoch, "train_loss": train_loss, **{f"validation_{k}": v for k, v in losses.items()}}
        record |= {"learning_rate": optimiser.param_groups[0]["lr"], "seconds": round(time.monotonic() - start, 2)}
        state = _judged(state, model, record)
        save_state(output, plan, model, optimiser, state)
        write_text(log_path, "".join(json.dumps(line) + "\n" for line in state.log))
        run.say(_line(record, state))
        registry.notify("uadtk_epoch_done", run.say, record=record)

    finished = len(state.log) >= schedule.epochs or state.waited >= schedule.patience
    model.load_state_dict(state.best)
    facts = {
        "date": dt.date.today().isoformat(),
        "uadtk": uadtk.__version__,
        "schedule": asdict(schedule),
        "epochs": len(state.log),
        "best_epoch": state.best_epoch,
        "best_validation_loss": state.best_loss,
        "finished": finished,
        "slices": {"train": len(slices), "validation": len(held)},
        "scans": {"train": slices.subjects, "validation": held.subjects},
        "cohort_digest": cohort.digest(),
    }
    trained = replace(checkpoint, weights=pack(model), training=facts, source=str(output))
    trained.save(output)
    if finished:
        forget(output)
    return trained


def _learning_rate(schedule: Schedule, passed: float) -> float:
    """The rate after ``passed`` epochs. Cosine: linearly up during the first, then down to 2 % at the last."""
    if schedule.decay == "none":
        return schedule.learning_rate
    left = 0.5 * (1 + math.cos(math.pi * passed / schedule.epochs))
    return schedule.learning_rate * min(1.0, passed + 0.01) * (0.02 + 0.98 * left)


def _train_epoch(
    model: nn.Module, optimiser: torch.optim.Optimizer, slices: Slices, schedule: Schedule, epoch: int, run: Run
) -> float:
    """One pass in a random order; returns the mean loss. The remainder of an uneven division is dropped."""
    model.train()
    size = min(schedule.batch, len(slices))
    order = np.random.default_rng([schedule.seed, epoch]).permutation(len(slices))
    steps = [order[i : i + size] for i in range(0, len(order) - size + 1, size)]
    total = 0.0
    for step, rows in enumerate(run.track(steps, f"epoch {epoch}")):
        for group in optimiser.param_groups:
            group["lr"] = _learning_rate(schedule, epoch - 1 + step / len(steps))
        batch = slices.batch(rows, run.device)
        loss = _losses(model, augmented(batch) if schedule.augment else batch, schedule)["loss"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        total += float(loss.detach())
    return total / len(steps)


@torch.no_grad()
def _mean_losses(model: nn.Module, slices: Slices, schedule: Schedule, device: str) -> dict[str, float]:
    model.eval()
    sums: dict[str, float] = {}
    for start in range(0, len(slices), schedule.batch):
        rows = np.arange(start, min(start + schedule.batch, len(slices)))
        for name, value in _losses(model, slices.batch(rows, device), schedule).items():
            sums[name] = sums.get(name, 0.0) + float(value) * len(rows)
    return {name: value / len(slices) for name, value in sums.items()}


def _losses(model: Any, batch: Batch, schedule: Schedule) -> dict[str, Tensor]:
    """Autocast is entered anew for every batch: inside one context it keeps the casts of weights that have changed."""
    reduced = schedule.precision == "bfloat16"
    with torch.autocast(batch.image.device.type, dtype=torch.bfloat16, enabled=reduced):
        losses: dict[str, Tensor] = model.training_loss(batch)
        return losses


def _judged(state: State, model: nn.Module, record: dict[str, Any]) -> State:
    """The state with this epoch in its log, and with its weights if they are the best so far."""
    log = [*state.log, record]
    if record["validation_loss"] < state.best_loss:
        best = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        return State(log, best, record["epoch"], record["validation_loss"])
    return replace(state, log=log)


def _line(record: dict[str, Any], state: State) -> str:
    best = "best" if state.best_epoch == record["epoch"] else f"best {state.best_loss:.5g} in epoch {state.best_epoch}"
    losses = f"train {record['train_loss']:.5g}  validation {record['validation_loss']:.5g}"
    return f"epoch {record['epoch']:4d}  {losses}  ({best})  {record['seconds']:.1f} s"
