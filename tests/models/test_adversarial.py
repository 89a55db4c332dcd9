"""Turns of the adversarial models: a step computes no gradient that it throws away, and moves only its player."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from uadtk import registry
from uadtk.core.options import build
from uadtk.networks.seeded import seeded
from uadtk.testing.specimens import healthy_slices
from uadtk.training.optimisers import make_optimisers, take_turns

SIDE = 32
SMALL = {"steganomaly": {"width": "4", "blocks": "1"}}


def made(name: str) -> Any:
    model = registry.load("models", name)
    with seeded(0):
        return (
            model(build(model.Options, SMALL.get(name, {}), name), SIDE).train().to(memory_format=torch.channels_last)
        )


class Weighed(TorchDispatchMode):
    """The shapes of convolutions' weights whose gradient is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution_backward.default and args[-1][1]:
            self.shapes.append(tuple(args[2].shape))
        return func(*args, **(kwargs or {}))


def kernels(parameters: list[nn.Parameter]) -> set[tuple[int, ...]]:
    return {tuple(p.shape) for p in parameters if p.ndim == 4}


@pytest.mark.parametrize("name", ["aae", "anogan", "anovaegan", "constrained-aae", "fanogan", "steganomaly"])
def test_a_turn_moves_its_player_and_computes_no_gradient_of_another(name: str) -> None:
    model = made(name)
    optimisers = make_optimisers(model, 1e-3)
    batch = healthy_slices(4, SIDE)
    owned = {player: list(own) for player, own in model.players().items()}
    for epoch in (1, 200):
        for turn in model.turns(epoch):
            before = {one: one.detach().clone() for one in model.parameters()}
            with seeded(1), Weighed() as weighed:
                take_turns([turn], optimisers, [batch])
            moved = {one for one, value in before.items() if not torch.equal(one, value)}
            assert moved
            assert moved <= set(owned[turn.player])
            assert all(one.grad is None for one in model.parameters())
            others = kernels([one for one in model.parameters() if one not in set(owned[turn.player])])
            assert set(weighed.shapes) & (others - kernels(owned[turn.player])) == set()


@pytest.mark.parametrize("name", ["anogan", "anovaegan", "fanogan"])
def test_a_critics_step_knows_nothing_of_how_its_slices_were_made(name: str) -> None:
    model = made(name)
    (turn,) = (turn for turn in model.turns(1) if turn.player == "critic")
    loss: Tensor = turn.loss(healthy_slices(4, SIDE))["loss"]
    others = [p for player, own in model.players().items() if player != "critic" for p in own]
    assert all(one is None for one in torch.autograd.grad(loss, others, allow_unused=True))
