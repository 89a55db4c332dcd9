"""What models, scorers and thresholders declare, and what holds where they declare nothing."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from uadtk.core.model import DEFAULT_CLEANERS, Batch, Traits, Turn, capabilities, default_scorer, traits
from uadtk.core.scorer import ScorerTraits, scorer_traits


class Plain(nn.Module):
    def reconstruct(self, x: Tensor) -> Tensor:
        return x

    def sample(self, x: Tensor, n: int) -> Tensor:
        return x.expand(n, *x.shape)


class Full(Plain):
    scorer = "montecarlo:samples=3"
    cleaners = ()
    betas = (0.9, 0.99)
    judged_from = math.inf
    supervised = True
    unlabelled = True
    quick: ClassVar = {"steps": 1}
    exempt: ClassVar = {"loss_falls": "It has none."}

    def __init__(self, neighbours: int = 2) -> None:
        super().__init__()
        self.neighbours = neighbours

    def turns(self, epoch: int) -> list[Turn]:
        return []

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {}

    def conclude(self, batches: list[Batch]) -> None:
        pass


def test_a_model_that_declares_nothing_has_the_defaults() -> None:
    for model in (Plain, Plain()):
        assert traits(model) == Traits(frozenset({"reconstruct", "sample"}), scorer="residual")
    assert traits(Plain).cleaners == DEFAULT_CLEANERS
    assert (traits(Plain).betas, traits(Plain).judged_from, traits(Plain).neighbours) == ((0.5, 0.999), 1, 0)
    assert not traits(Plain).players
    assert not traits(Plain).turns
    assert not traits(Plain).conclude


def test_everything_declared_is_read() -> None:
    model = Full()
    found = traits(model)
    assert (found.scorer, found.cleaners, found.betas) == ("montecarlo:samples=3", (), (0.9, 0.99))
    assert (found.judged_from, found.supervised, found.unlabelled) == (math.inf, True, True)
    assert (found.neighbours, found.quick, found.exempt) == (2, Full.quick, Full.exempt)
    assert (found.turns, found.players, found.conclude) == (model.turns, model.players, model.conclude)


def test_options_may_decide_traits_of_the_instance() -> None:
    assert [traits(model).neighbours for model in (Full, Full(0), Full(3))] == [0, 0, 3]
    model = Plain()
    model.lacks = ("sample",)  # type: ignore[assignment]
    assert capabilities(model) == {"reconstruct"}
    model.lacks, model.reconstruct = (), None  # type: ignore[assignment, method-assign]
    assert capabilities(model) == {"sample"}


def test_the_default_scorer_is_declared_or_follows_from_the_methods() -> None:
    class Ranker(nn.Module):
        def score(self, x: Tensor, brain: Tensor) -> Tensor:
            return x

    assert [default_scorer(model) for model in (Plain, Ranker, Full)] == ["residual", "own", "montecarlo:samples=3"]


def test_traits_of_scorers() -> None:
    class Plain:
        needs = ("reconstruct",)

    class Whole:
        needs: tuple[str, ...] = ("score",)
        whole_scan = needs_gradient = True

        def __init__(self, product: bool) -> None:
            if product:
                self.needs = ("score", "objective")

    assert scorer_traits(Plain) == ScorerTraits(("reconstruct",), False, False)
    assert scorer_traits(Whole) == scorer_traits(Whole(False)) == ScorerTraits(("score",), True, True)
    assert scorer_traits(Whole(True)).needs == ("score", "objective")


def test_labels_and_hints_of_a_batch_are_false_by_default() -> None:
    brain = torch.ones(2, 1, 4, 4, dtype=torch.bool)
    batch = Batch(brain.float(), brain, brain)
    assert not any(getattr(batch, name).any() for name in ("lesion", "known", "hint", "hinted"))
    assert len(batch.each(lambda t: t[:1]).hint) == 1
