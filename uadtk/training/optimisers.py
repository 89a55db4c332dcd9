"""One batch of training: each player takes its turn, computes its gradient, and steps.

A non-adversarial model has one player, ``model``, with all parameters; it minimises ``training_loss``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from uadtk.core.model import Batch, Turn, capabilities, traits
from uadtk.networks.seeded import seeded

ALONE = "model"
Optimisers = dict[str, torch.optim.Adam]


def make_optimisers(model: Any, learning_rate: float) -> Optimisers:
    """One Adam per player, so that one player's gradients never affect another's moments.

    Empty for a model without parameters, which is fitted by ``conclude`` alone.
    """
    has = traits(model)
    parameters = has.players() if has.players else {ALONE: model.parameters()}
    owned = {name: list(own) for name, own in parameters.items()}
    return {name: torch.optim.Adam(own, lr=learning_rate, betas=has.betas) for name, own in owned.items() if own}


def turns_of(model: Any, epoch: int) -> Sequence[Turn]:
    turns = traits(model).turns
    return turns(epoch) if turns else (Turn(ALONE, model.training_loss),)


def judged_from(model: Any) -> float:
    """The first epoch whose validation loss counts."""
    return float(traits(model).judged_from)


def learns_labels(model: Any) -> bool:
    """Whether it learns from labelled lesions; the others learn from normal slices."""
    return bool(traits(model).supervised)


@torch.no_grad()
def learns_to_remove(model: Any, side: int) -> bool:
    """Whether its loss depends on ``Batch.image`` and on ``Batch.target``, each by itself."""
    if "training_loss" not in capabilities(model) or traits(model).neighbours or learns_labels(model):
        return False
    brain = torch.ones(2, 1, side, side, dtype=torch.bool)
    image, target = brain * 0.5, brain * 0.7

    def loss(image: Tensor, target: Tensor) -> float:
        with seeded(0):
            return float(model.training_loss(Batch(image, brain, brain, clean=target))["loss"])

    model.eval()
    return loss(image, image) not in (loss(image, target), loss(target, image))


def take_turns(
    turns: Sequence[Turn],
    optimisers: Optimisers,
    parts: Sequence[Batch],
    share: float = 1.0,
    total: Callable[[list[Tensor]], None] | None = None,
) -> dict[str, Tensor]:
    """Every player's steps on one batch, given as ``parts`` that fit into memory.

    ``share``: part of the whole batch that these parts make up; if it is below 1, ``total`` sums gradients over the
    processes, in place. Returns the mean losses of each player's last step on these parts; the player's own is under
    its name (``loss`` if it is alone).
    """
    means: dict[str, Tensor] = {}
    for turn in turns:
        given = [_given(turn, part) for part in parts]
        for _ in range(turn.times):
            losses = _step(turn, optimisers[turn.player], given, share, total)
        own = losses.pop("loss")
        means |= {"loss" if turn.player == ALONE else turn.player: own, **losses}
    return means


@torch.no_grad()
def _given(turn: Turn, part: Batch) -> tuple[Any, ...]:
    """Arguments of the turn's loss."""
    return (part, turn.once(part)) if turn.once else (part,)


def _step(
    turn: Turn,
    optimiser: torch.optim.Adam,
    given: Sequence[tuple[Any, ...]],
    share: float,
    total: Callable[[list[Tensor]], None] | None,
) -> dict[str, Tensor]:
    """Gradients are computed for the player's own parameters only, so other players need not be frozen."""
    parameters: list[nn.Parameter] = [p for p in optimiser.param_groups[0]["params"] if p.requires_grad]
    gradients: list[Tensor | None] = [None] * len(parameters)
    means: dict[str, Tensor] = {}
    everything = sum(len(part.image) for part, *_ in given)
    for part, *others in given:
        weight = len(part.image) / everything
        losses = turn.loss(part, *others)
        found = torch.autograd.grad(losses["loss"] * (weight * share), parameters, allow_unused=True)
        gradients = [
            new if old is None else old if new is None else old + new for old, new in zip(gradients, found, strict=True)
        ]
        for name, value in losses.items():
            means[name] = means.get(name, torch.zeros(())) + weight * value.detach().float()
    if total is not None:
        gradients = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)]
        total(gradients)  # type: ignore[arg-type]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return means
