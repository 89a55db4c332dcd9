"""The restoration scorer, on objectives whose descent is known in closed form."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from uadtk.scorers.restoration import EARLY_STEPS, WINDOW, Options, Scorer, tv_gradient

SIDE = 16
GENERATOR = torch.Generator().manual_seed(0)
X = torch.rand(3, 1, SIDE, SIDE, generator=GENERATOR)
BRAIN = torch.rand(3, 1, SIDE, SIDE, generator=GENERATOR) > 0.2
ALL = torch.ones_like(BRAIN)


class Quadratic(nn.Module):
    """½ stiffness Σ (x - normal)²; counts the slices it is asked for."""

    def __init__(self, normal: float = 0.5, stiffness: float = 1.0) -> None:
        super().__init__()
        self.normal = nn.Parameter(torch.tensor(normal))
        self.stiffness = stiffness
        self.seen: list[int] = []

    def objective(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        return 0.5 * self.stiffness * (x - self.normal).square().flatten(1).sum(1)


class Linear(nn.Module):
    """Σ x: always better darker, by one per unit."""

    def objective(self, x: Tensor) -> Tensor:
        return x.flatten(1).sum(1)


def restore(model: nn.Module, options: Options, x: Tensor = X, brain: Tensor = ALL, hold: int = 1) -> Tensor:
    options = replace(options, hold=hold)
    return Scorer(options).score(model, x, brain).maps["reconstruction"]


@pytest.mark.parametrize("steps", [1, EARLY_STEPS, 500])
def test_without_tv_the_schedule_is_seen_in_the_result(steps: int) -> None:
    """x - m shrinks by (1 - rate) a step."""
    early, late = min(steps, EARLY_STEPS), max(0, steps - EARLY_STEPS)
    left = (1 - 5e-3) ** early * (1 - 2e-3) ** late
    restored = restore(Quadratic(), Options(tv=0, steps=steps, tolerance=0))
    torch.testing.assert_close(restored, 0.5 + (X - 0.5) * left, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("polarity", "sign"), [("positive", 0.0), ("absolute", -1.0)])
def test_the_score_is_what_was_taken_away_inside_the_brain(polarity, sign) -> None:
    scored = Scorer(Options(tv=0, rate=0.1, late_rate=0.1, polarity=polarity)).score(Quadratic(), X, BRAIN)
    away = X - 0.5
    torch.testing.assert_close(scored.score, torch.maximum(away, sign * away) * BRAIN, atol=1e-5, rtol=0)
    torch.testing.assert_close(scored.maps["reconstruction"], 0.5 * BRAIN, atol=1e-5, rtol=0)
    assert not scored.score.requires_grad


def test_gradients_are_clipped() -> None:
    """A slope of 1000 moves a pixel by rate * clip."""
    restored = restore(Quadratic(stiffness=1e6), Options(tv=0, steps=1, clip=50))
    torch.testing.assert_close(restored, X - 5e-3 * 50 * (X - 0.5).sign())


def test_tv_gradient_is_the_derivative_of_the_sum_of_differences() -> None:
    change = X.clone().requires_grad_()
    total = change.diff(dim=2).abs().sum() + change.diff(dim=3).abs().sum()
    (exact,) = torch.autograd.grad(total, change)
    assert torch.equal(tv_gradient(X), exact)
    assert not tv_gradient(torch.ones(1, 1, 4, 4)).any()


def test_large_tv_returns_the_input() -> None:
    """To the jitter, a few steps of the largest gradient. Without TV the same steps go all the way."""
    steps: Any = {"rate": 1e-3, "late_rate": 1e-3, "steps": 500}
    kept, gone = (
        Scorer(Options(tv=tv, polarity="absolute", **steps)).score(Linear(), X, BRAIN).score for tv in (5.0, 0.0)
    )
    assert kept.max() < 3 * 1e-3 * (4 * 5 + 1)
    torch.testing.assert_close(gone, 0.5 * BRAIN.float(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("tv", [0.25, 0.5])
def test_tv_shrinks_a_square_by_its_perimeter_over_its_area(tv: float) -> None:
    """The minimiser of ½|x - m|² + tv TV(x - y) leaves an 8 x 8 lesion of contrast 0.6 a contrast of tv * 32 / 64."""
    x = torch.full((1, 1, 32, 32), 0.5)
    x[..., 12:20, 12:20] += 0.6
    options = Options(tv=tv, steps=500, rate=5e-2, late_rate=5e-4, tolerance=0)
    scored = Scorer(options).score(Quadratic(), x, torch.ones_like(x, dtype=torch.bool))
    assert float(scored.score[..., 12:20, 12:20].mean()) == pytest.approx(0.6 - tv * 32 / 64, abs=0.03)
    assert float(scored.score[..., :8, :].max()) < 0.03


@pytest.mark.parametrize("radius", [1.5, 2.5, 3.5, 4.5, 6.5])
def test_the_default_weight_lets_a_perfect_model_remove_lesions_of_every_size(radius: float) -> None:
    """Of an l1 objective and a disc, tv 2.2 would keep 89 % and more up to a radius of 4.5 pixels."""

    class Perfect:
        def objective(self, x: Tensor) -> Tensor:
            return (x - 0.5).abs().flatten(1).sum(1)

    row, column = torch.meshgrid(*[torch.arange(32.0) - 16] * 2, indexing="ij")
    lesion = (torch.hypot(row, column) <= radius)[None, None]
    x, brain = 0.5 + 0.4 * lesion, torch.ones_like(lesion)
    removed = Scorer(Options()).score(Perfect(), x, brain).score
    assert float(removed[lesion].mean()) > 0.95 * 0.4
    assert float(removed[~lesion].max()) < 0.05 * 0.4


def test_slices_that_settled_leave_the_batch() -> None:
    """The first slice is normal from the start, the second is not; the third is at the clip for long."""
    x = torch.full((3, 1, SIDE, SIDE), 0.5)
    x[1] += 0.2
    x[2] += 6.0
    model, patient = Quadratic(stiffness=10), Quadratic(stiffness=10)
    restored = restore(model, Options(clip=10, tolerance=5e-3), x)
    exact = restore(patient, Options(clip=10), x)
    assert patient.seen == [3] * 500
    first = next(step for step, n in enumerate(model.seen) if n < 3)
    assert first == EARLY_STEPS + 2 * WINDOW
    assert sorted(model.seen, reverse=True) == model.seen
    assert len(model.seen) < 500
    torch.testing.assert_close(restored, exact, atol=0.01, rtol=0)


def test_other_slices_do_not_matter() -> None:
    x = torch.cat([torch.full((1, 1, SIDE, SIDE), 0.5), X])
    brain = torch.cat([ALL[:1], BRAIN])
    together = restore(Quadratic(), Options(), x, brain)
    alone = torch.cat([restore(Quadratic(), Options(), x[k : k + 1], brain[k : k + 1]) for k in range(len(x))])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("frozen", [False, True])
def test_weights_are_left_alone(frozen: bool) -> None:
    model, x = Quadratic().requires_grad_(not frozen), X.clone()
    restore(model, Options(steps=3))
    assert model.normal.grad is None
    assert model.normal.requires_grad is not frozen
    assert torch.equal(x, X)


def test_an_objective_that_draws_draws_anew_each_step_and_leaves_no_trace() -> None:
    drawn = []

    class Drawing(nn.Module):
        def objective(self, x: Tensor) -> Tensor:
            drawn.append(torch.randn(SIDE, SIDE))
            return (x * drawn[-1]).flatten(1).sum(1)

    before = torch.get_rng_state()
    one, two = (restore(Drawing(), Options(steps=5, tv=0)) for _ in range(2))
    assert torch.equal(one, two)
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(one, X - 5e-3 * sum(drawn[:5]))
    assert not torch.equal(drawn[0], drawn[1])


def test_bfloat16_is_used_where_asked_and_stays_close() -> None:
    kinds = set()

    class Layered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(1, 1, 1, bias=False)
            nn.init.constant_(self.layer.weight, 0.5)

        def objective(self, x: Tensor) -> Tensor:
            out = self.layer(x)
            kinds.add(out.dtype)
            return (x - out).square().flatten(1).sum(1)

    exact, near = (restore(Layered(), Options(tv=0, precision=p)) for p in ("float32", "bfloat16"))
    assert kinds == {torch.float32, torch.bfloat16}
    assert not torch.equal(exact, near)
    torch.testing.assert_close(near, exact, atol=5e-3, rtol=0)


@pytest.mark.parametrize(("steps", "calls"), [(1, 1), (4, 1), (5, 2), (500, 125)])
def test_a_gradient_serves_as_many_steps_as_it_is_held(steps: int, calls: int) -> None:
    model = Quadratic()
    restore(model, Options(steps=steps), hold=4)
    assert model.seen == [3] * calls


def test_held_gradients_lead_nearly_where_fresh_ones_do() -> None:
    """And exactly there where the gradient is the same everywhere; total variation is always taken anew."""
    fresh, held = (restore(Quadratic(), Options(tv=0), hold=hold) for hold in (1, 4))
    torch.testing.assert_close(held, fresh, atol=5e-3, rtol=0)
    assert not torch.equal(held, fresh)
    fresh, held = (restore(Linear(), Options(tv=0.3), hold=hold) for hold in (1, 4))
    assert torch.equal(held, fresh)


def test_a_slice_takes_its_held_gradient_along_when_others_leave() -> None:
    x = torch.full((2, 1, SIDE, SIDE), 0.5)
    x[1] += 6.0
    options, model = Options(clip=10, tolerance=5e-3), Quadratic(stiffness=10)
    together = restore(model, options, x, ALL[:2], hold=7)
    alone = restore(Quadratic(stiffness=10), options, x[1:], ALL[:1], hold=7)
    assert torch.equal(together[1:], alone)
    assert set(model.seen) == {2, 1}
