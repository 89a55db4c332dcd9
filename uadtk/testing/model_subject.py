"""A model under test: it is built, applied and trained here, and the types of its results are checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from uadtk import registry
from uadtk.core import options as opts
from uadtk.core.errors import UsageError
from uadtk.core.model import Batch, Traits, Turn, default_scorer, traits
from uadtk.core.spec import Spec
from uadtk.networks.seeded import seeded
from uadtk.testing.contract import HOW_OPTIONS, Failed, NotApplicable, listed, require, require_type, required
from uadtk.testing.specimens import healthy_slices, planted
from uadtk.training.optimisers import Optimisers, make_optimisers, take_turns, turns_of

SIDES = (64, 128)
SLICES = 6
STEPS, LEARNING_RATE = 20, 5e-4


class Subject:
    """A model under test. Expensive objects are made once and shared by the checks."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cls: Any = registry.load("models", name)
        self.exempt: Mapping[str, str] = traits(self.cls).exempt

    @cached_property
    def instance(self) -> Any:
        return self.fresh

    @cached_property
    def side(self) -> int:
        for side in SIDES[:-1]:
            try:
                self.new(side)
            except UsageError:
                continue
            return side
        return SIDES[-1]

    @cached_property
    def options(self) -> Any:
        try:
            return opts.build(required(self.cls, "Options", HOW_OPTIONS), traits(self.cls).quick, self.name)
        except UsageError as error:
            raise Failed(f"quick names options that Options refuses: {error.one_line()}") from None

    def new(self, side: int) -> Any:
        with seeded(0):
            model: nn.Module = self.cls(self.options, side)
        require_type(model, nn.Module, "the class")
        return model.eval()

    @cached_property
    def fresh(self) -> Any:
        return self.new(self.side).requires_grad_(False)

    @cached_property
    def traits(self) -> Traits:
        return traits(self.fresh)

    @cached_property
    def healthy(self) -> Batch:
        return healthy_slices(SLICES, self.side)

    @cached_property
    def lessons(self) -> Batch:
        """Its training batch: healthy slices or, for a model that learns from labels, slices with a labelled lesion."""
        if not self.traits.supervised:
            return self.healthy
        image, lesion = planted(self.healthy)
        channels = 1 + 2 * self.traits.neighbours
        return replace(self.healthy, image=image.repeat(1, channels, 1, 1), lesion=lesion, known=lesion | True)

    @cached_property
    def trained(self) -> Any:
        """The model after ``STEPS`` steps in each stage of training; fresh if there is nothing to train."""
        model = self.new(self.side).train()
        optimisers = make_optimisers(model, LEARNING_RATE)
        frozen = bool(optimisers) and not any(p.requires_grad for p in model.parameters())
        require(not frozen, "all its parameters are frozen; training needs at least 1 that requires a gradient")
        with seeded(1), torch.inference_mode(False), torch.enable_grad():
            for epoch in self.stages(model) if optimisers else []:
                for _ in range(STEPS):
                    take_turns(checked_turns(model, epoch, optimisers), optimisers, [self.lessons])
        model.eval().requires_grad_(False)
        if conclude := traits(model).conclude:
            with torch.no_grad():
                conclude([self.lessons])
        return model

    def stages(self, model: Any) -> list[int]:
        """The first epoch, and the first that is judged: where the two differ, a model trains in two stages."""
        judged = traits(model).judged_from
        return [1, int(judged)] if 1 < judged < math.inf else [1]

    @cached_property
    def scorer(self) -> tuple[str, Any]:
        """Name of the default scorer, and the scorer."""
        spec = default_scorer(self.fresh)
        require(isinstance(spec, str), f"scorer is {spec!r}; text is required: name:option=value")
        parsed = Spec.parse(spec)
        return parsed.name, registry.build("scorers", parsed)

    def has(self, method: str) -> bool:
        return method in self.traits.capabilities

    def needs(self, method: str) -> None:
        if not self.has(method):
            raise NotApplicable(f"it does not define {method}")

    @property
    def output(self) -> str:
        """The method whose result is checked: reconstruct, else score."""
        found = next((name for name in ("reconstruct", "score") if self.has(name)), "")
        require(bool(found), "it defines neither reconstruct(x) nor score(x, brain), and needs one of them")
        return found

    def outputs(self, model: Any, x: Tensor, brain: Tensor) -> Tensor:
        """The reconstruction of slices; of a model without one, their score."""
        with torch.inference_mode():
            out: Tensor = model.reconstruct(x) if self.output == "reconstruct" else model.score(x, brain)
        require_shape(out, x, self.output)
        return out

    def loss(self, model: Any, batch: Batch) -> dict[str, Tensor]:
        with seeded(2):
            losses: dict[str, Tensor] = model.training_loss(batch)
        require_losses(losses, "training_loss")
        return losses


def require_shape(out: Any, x: Tensor, returned_by: str) -> None:
    """A tensor of the shape of ``x``."""
    require_type(out, Tensor, returned_by)
    require(out.shape == x.shape, f"{returned_by} returned shape {tuple(out.shape)}; {tuple(x.shape)} is required")


def require_losses(losses: Any, returned_by: str) -> None:
    """A dictionary of finite scalars with a key 'loss'."""
    require_type(losses, dict, returned_by)
    keys = ", ".join(repr(name) for name in losses)
    require("loss" in losses, f"{returned_by} returned the keys {{{keys}}}, and needs a key 'loss'")
    for name, value in losses.items():
        require_type(value, Tensor, f"{returned_by}: '{name}'")
        require(value.ndim == 0, f"{returned_by}: '{name}' has shape {tuple(value.shape)}; a scalar is required")
        require(bool(value.isfinite()), f"{returned_by}: '{name}' is {float(value.detach()):g}; it must be finite")


def checked_turns(model: Any, epoch: int, optimisers: Optimisers) -> list[Turn]:
    """The turns of an epoch, with a check on the losses that they return."""

    def checked(turn: Turn) -> Turn:
        def loss(batch: Batch, *given: Any) -> dict[str, Tensor]:
            losses = turn.loss(batch, *given)
            require_losses(losses, f"the loss of turn '{turn.player}'")
            return losses

        return replace(turn, loss=loss)

    turns: Sequence[Turn] = turns_of(model, epoch)
    unknown = {turn.player for turn in turns} - set(optimisers)
    players = ", ".join(sorted(optimisers)) or "none"
    require(not unknown, f"turns({epoch}) names the player {listed(unknown)}; players() has {players}")
    return [checked(turn) for turn in turns]
