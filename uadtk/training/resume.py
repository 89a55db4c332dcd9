"""The state of a training between two epochs, in one safetensors file beside the output."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from uadtk.checkpoint import SUFFIX
from uadtk.core import schema
from uadtk.core.absent import refuse_special
from uadtk.core.errors import CheckpointError, UsageError
from uadtk.io.write import refuse_existing, refuse_file, write_bytes
from uadtk.training.optimisers import Optimisers


@dataclass(frozen=True)
class State:
    """``log`` has one record per epoch; ``best`` the weights of the epoch with the lowest validation loss.

    Before the first epoch that is judged, ``best`` are the latest weights and ``best_loss`` is infinite. ``failed``:
    subjects whose scans could not be used. ``mean``: of the weights after the last epochs, if they are averaged.
    """

    log: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    best_loss: float = math.inf
    failed: tuple[str, ...] = ()
    mean: dict[str, Tensor] = field(default_factory=dict)

    @property
    def waited(self) -> int:
        """Epochs since the best one."""
        return len(self.log) - self.best_epoch


def state_path(output: Path) -> Path:
    return output.with_name(output.name + ".resume")


def refuse_checkpoint(path: Path, overwrite: bool) -> None:
    """Raises UsageError if ``path`` is no name for a checkpoint, or exists and is not to be overwritten or resumed."""
    if path.suffix != SUFFIX:
        raise UsageError(f"a checkpoint ends in {SUFFIX}", str(path))
    refuse_existing([state_path(path)], overwrite=True)  # its name is longer
    refuse_file(path, overwrite or state_path(path).exists())


def save_state(output: Path, plan: dict[str, Any], model: nn.Module, optimisers: Optimisers, state: State) -> None:
    """Write atomically everything the next epoch depends on."""
    from safetensors.torch import save

    tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"best/{name}": tensor for name, tensor in state.best.items()}
    tensors |= {f"mean/{name}": tensor for name, tensor in state.mean.items()}
    for player, optimiser in optimisers.items():
        for index, moments in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser/{player}/{index}/{name}": torch.as_tensor(value) for name, value in moments.items()}
    best_loss = state.best_loss if math.isfinite(state.best_loss) else None
    facts = {"plan": plan, "log": state.log, "best_epoch": state.best_epoch, "best_loss": best_loss}
    facts["failed"] = list(state.failed)
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(state_path(output), save(contiguous, {"uadtk-resume": json.dumps(facts)}))


def load_state(output: Path, plan: dict[str, Any], model: nn.Module, optimisers: Optimisers) -> State:
    """Fill ``model`` and ``optimisers`` and return the state; an empty one if no training was interrupted.

    Raises
    ------
    UsageError
        The interrupted training was another one.
    CheckpointError
        The file is damaged.
    """
    path = state_path(output)
    if not path.exists():
        return State()
    try:
        return _read_state(path, plan, model, optimisers)
    except UsageError:
        raise
    except Exception as error:  # safetensors and torch raise several kinds
        what = f"cannot be resumed ({' '.join(str(error).split())[:160]})"
        raise CheckpointError(what, str(path), "Delete it to start again.") from None


def _read_state(path: Path, plan: dict[str, Any], model: nn.Module, optimisers: Optimisers) -> State:
    from safetensors import safe_open

    refuse_special(path)
    with safe_open(path, "pt") as file:
        facts = schema.parse_json(file.metadata()["uadtk-resume"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    _FACTS(facts, "its header")
    now = json.loads(json.dumps(plan))
    if facts["plan"] != now:
        changed = [key for key in now if facts["plan"].get(key) != now[key]]
        raise UsageError(
            f"an interrupted training with other {', '.join(changed)} is here",
            str(path),
            "Repeat its command to resume, or delete the file to start again.",
        )
    model.load_state_dict(_under("model/", tensors))
    for player, optimiser in optimisers.items():
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _under(f"optimiser/{player}/", tensors).items():
            index, _, key = name.partition("/")
            moments.setdefault(int(index), {})[key] = tensor
        optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})
    best_loss = math.inf if facts["best_loss"] is None else facts["best_loss"]
    failed = tuple(facts.get("failed", ()))
    return State(
        facts["log"], _under("best/", tensors), facts["best_epoch"], best_loss, failed, _under("mean/", tensors)
    )


_FACTS = schema.record(
    {
        "plan": schema.mapping(schema.plain),
        "log": schema.items(schema.mapping(schema.plain), 10**6),
        "best_epoch": schema.whole(0, 10**6),
        "best_loss": schema.optional(schema.number()),
    },
    {"failed": schema.items(schema.text(), 10**7)},
)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def judged(state: State, model: nn.Module, record: dict[str, Any], first: float) -> State:
    """Add this epoch to the log, and store its weights if they are the best so far, or epoch ``first`` is to come."""
    log, counts = [*state.log, record], record["epoch"] >= first
    if counts and record["validation_loss"] >= state.best_loss:
        return replace(state, log=log)
    best = _copied(model)
    best_loss = record["validation_loss"] if counts else math.inf
    return replace(state, log=log, best=best, best_epoch=record["epoch"], best_loss=best_loss)


def averaged(state: State, model: nn.Module, after: int) -> State:
    """Update the mean of the weights after each epoch later than ``after`` (Izmailov et al. 2018)."""
    n = len(state.log) - after
    if n < 1:
        return state
    now = _copied(model)
    if not state.mean:
        return replace(state, mean=now)
    mean = {
        name: was.lerp(now[name], 1 / n) if was.is_floating_point() else now[name] for name, was in state.mean.items()
    }
    return replace(state, mean=mean)


def _copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def forget(output: Path) -> None:
    state_path(output).unlink(missing_ok=True)
