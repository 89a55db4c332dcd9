"""Turns: who moves, whose gradient counts, in which optimiser."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from uadtk.core.model import Batch, Turn
from uadtk.training.optimisers import judged_from, make_optimisers, take_turns, turns_of

IMAGE = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
BATCH = Batch(IMAGE, IMAGE > 0, IMAGE > 0)
RATE = 0.1


class Alone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.grey = nn.Parameter(torch.tensor(0.2))
        self.unused = nn.Parameter(torch.tensor(3.0))

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        loss = (batch.image - self.grey).square().mean()
        return {"loss": loss, "brightest": batch.image.max()}


class Duel(nn.Module):
    """``a`` wants to be far from ``b``, ``b`` near ``a``; ``both`` wants both at 0."""

    betas = (0.0, 0.9)

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(2.0))
        self.steps: list[str] = []

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"first": [self.a], "second": [self.b], "both": [self.a, self.b]}

    def turns(self, epoch: int) -> list[Turn]:
        return [Turn("first", self.flee, times=2), *([Turn("second", self.chase)] if epoch > 1 else [])]

    def flee(self, batch: Batch) -> dict[str, Tensor]:
        self.steps.append("first")
        return {"loss": -(self.a - self.b).square(), "distance": (self.a - self.b).abs()}

    def chase(self, batch: Batch) -> dict[str, Tensor]:
        self.steps.append("second")
        return {"loss": (self.a - self.b).square()}


def test_a_model_without_players_takes_adams_step() -> None:
    model, twin = Alone(), Alone()
    said = take_turns(turns_of(model, 1), make_optimisers(model, RATE), [BATCH])
    adam = torch.optim.Adam(twin.parameters(), lr=RATE, betas=(0.5, 0.999))
    loss = twin.training_loss(BATCH)["loss"]
    loss.backward()
    adam.step()
    assert torch.equal(model.grey, twin.grey)
    assert model.unused == 3
    torch.testing.assert_close(said, {"loss": loss.detach(), "brightest": IMAGE.max()})


def test_players_move_in_turn_and_move_only_themselves() -> None:
    model = Duel()
    optimisers = make_optimisers(model, RATE)
    said = take_turns(turns_of(model, 1), optimisers, [BATCH])
    assert model.steps == ["first", "first"]
    assert model.a.item() == pytest.approx(1 - 2 * RATE, abs=0.01)  # Adam's first steps are about as long as the rate
    assert model.b == 2
    assert set(said) == {"first", "distance"}
    assert said["distance"].item() == pytest.approx(1 + RATE, abs=1e-5)  # as its last step saw it
    take_turns(turns_of(model, 2), optimisers, [BATCH])
    assert model.steps == ["first", "first"] * 2 + ["second"]
    assert model.b.item() == pytest.approx(2 - RATE, abs=1e-5)
    assert model.a.grad is None
    assert model.b.grad is None


def test_each_player_has_its_own_moments_and_the_models_betas() -> None:
    model = Duel()
    optimisers = make_optimisers(model, RATE)
    take_turns(turns_of(model, 1), optimisers, [BATCH])
    assert {name: len(optimiser.state) for name, optimiser in optimisers.items()} == {
        "first": 1,
        "second": 0,
        "both": 0,
    }
    assert all(optimiser.param_groups[0]["betas"] == (0.0, 0.9) for optimiser in optimisers.values())


def test_what_steps_do_not_change_is_computed_once_per_part_and_without_gradient() -> None:
    model = Duel()
    calls: list[tuple[int, bool]] = []

    def distance(batch: Batch) -> Tensor:
        calls.append((len(batch.image), torch.is_grad_enabled()))
        return (model.b - 0.5) * batch.image.mean()

    def loss(batch: Batch, given: Tensor) -> dict[str, Tensor]:
        return {"loss": (model.a - given).square(), "given": given}

    turn = Turn("first", loss, times=3, once=distance)
    parts = [BATCH.each(lambda t: t[:2]), BATCH.each(lambda t: t[2:])]
    said = take_turns([turn], make_optimisers(model, RATE), parts)
    assert calls == [(2, False), (4, False)]
    torch.testing.assert_close(said["given"], 1.5 * IMAGE.mean())
    assert 1 - 3 * RATE < model.a.item() < 1 - 2 * RATE  # towards 0.75, in ever shorter steps


@pytest.mark.parametrize("cuts", [(3, 3), (1, 5), (2, 2, 2), (4, 1, 1)])
def test_parts_of_a_batch_make_the_step_of_the_whole(cuts: tuple[int, ...]) -> None:
    whole, parts = Alone(), Alone()
    one = take_turns(turns_of(whole, 1), make_optimisers(whole, RATE), [BATCH])
    pieces = [Batch(*t) for t in zip(*(x.split(cuts) for x in (BATCH.image, BATCH.brain, BATCH.normal)), strict=True)]
    optimisers = make_optimisers(parts, RATE)
    two = take_turns(turns_of(parts, 1), optimisers, pieces)
    torch.testing.assert_close(one["loss"], two["loss"])
    (moments,) = optimisers["model"].state.values()
    exact = 2 * (0.2 - IMAGE.mean())
    torch.testing.assert_close(moments["exp_avg"], 0.5 * exact)


def test_shares_are_added_up_over_the_processes() -> None:
    """Two processes with a third and two thirds of the batch; the sum of their gradients is the batch's."""
    seen: list[Tensor] = []
    for rows, share in ((slice(0, 2), 1 / 3), (slice(2, 6), 2 / 3)):
        model = Alone()
        part = Batch(IMAGE[rows], BATCH.brain[rows], BATCH.normal[rows])
        total = lambda gradients: seen.append(gradients[0].clone())  # noqa: E731
        take_turns(turns_of(model, 1), make_optimisers(model, RATE), [part], share, total)
    torch.testing.assert_close(sum(seen), 2 * (0.2 - IMAGE.mean()))


def test_validation_counts_from_the_first_epoch_unless_a_model_says_otherwise() -> None:
    model = Duel()
    assert judged_from(model) == 1
    model.judged_from = math.inf  # type: ignore[assignment]
    assert judged_from(model) == math.inf
