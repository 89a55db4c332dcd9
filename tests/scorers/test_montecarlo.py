"""The Monte-Carlo scorer: means over samples, against numbers known in closed form."""

from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from uadtk.core.errors import UsageError
from uadtk.core.spec import Spec
from uadtk.scorers.montecarlo import AT_ONCE, Options, Scorer

GENERATOR = torch.Generator().manual_seed(0)
X = torch.rand(3, 1, 8, 8, generator=GENERATOR)
BRAIN = torch.rand(3, 1, 8, 8, generator=GENERATOR) > 0.2


class Gaussian:
    """x̂ ~ N(0.8 x, std²) in every pixel; remembers what it drew."""

    def __init__(self, std: float = 0.1) -> None:
        self.std = std
        self.drawn: list[Tensor] = []

    def sample(self, x: Tensor, n: int) -> Tensor:
        self.drawn.append(0.8 * x + self.std * torch.randn(n, *x.shape))
        return self.drawn[-1]

    def samples(self) -> Tensor:
        """(N, B, 1, S, S): calls come slice by slice, several for each."""
        calls = len(self.drawn) // len(X)
        return torch.cat([torch.cat(self.drawn[k : k + calls]) for k in range(0, len(self.drawn), calls)], dim=1)


@pytest.mark.parametrize("polarity", ["positive", "absolute"])
@pytest.mark.parametrize("samples", [1, 3, 2 * AT_ONCE + 5])
def test_mean_and_variance_of_the_residuals_of_what_was_drawn(polarity, samples) -> None:
    model = Gaussian()
    scored = Scorer(Options(samples, polarity=polarity)).score(model, X, BRAIN)
    difference = (X - model.samples()).double()
    assert len(difference) == samples
    residual = (difference.abs() if polarity == "absolute" else difference.clamp(min=0)) * BRAIN
    torch.testing.assert_close(scored.score, residual.mean(0).float())
    torch.testing.assert_close(scored.maps["uncertainty"], residual.var(0, correction=0).float(), atol=1e-7, rtol=1e-5)
    torch.testing.assert_close(scored.maps["reconstruction"], (model.samples().double().mean(0) * BRAIN).float())


def test_the_authors_way_is_the_residual_of_the_mean() -> None:
    model = Gaussian()
    scored = Scorer(Options(7, "mean-reconstruction")).score(model, X, BRAIN)
    torch.testing.assert_close(scored.score, (X - model.samples().mean(0)).clamp(min=0) * BRAIN)


def test_mean_of_residuals_is_never_below_residual_of_mean() -> None:
    """Jensen; and far above where the samples spread wider than the residual."""
    for polarity in ("positive", "absolute"):
        paper, code = (
            Scorer(Options(20, mode, polarity)).score(Gaussian(), X, BRAIN).score
            for mode in ("mean-residual", "mean-reconstruction")
        )
        assert (paper >= code - 1e-6).all()
        assert paper.sum() > code.sum() + 1


def test_many_samples_approach_the_expectation() -> None:
    """For x̂ ~ N(x, s²): E|x - x̂| = s sqrt(2 / pi), variance s² (1 - 2 / pi)."""
    x, brain = torch.full((1, 1, 8, 8), 0.5), torch.ones(1, 1, 8, 8, dtype=torch.bool)

    class Unbiased:
        def sample(self, x: Tensor, n: int) -> Tensor:
            return x + 0.2 * torch.randn(n, *x.shape)

    scored = Scorer(Options(2000, polarity="absolute")).score(Unbiased(), x, brain)
    assert float(scored.score.mean()) == pytest.approx(0.2 * math.sqrt(2 / math.pi), rel=0.01)
    assert float(scored.maps["uncertainty"].mean()) == pytest.approx(0.04 * (1 - 2 / math.pi), rel=0.02)


def test_samples_that_agree_are_certain() -> None:
    scored = Scorer(Options(40)).score(Gaussian(std=0), X, BRAIN)
    torch.testing.assert_close(scored.score, (X - 0.8 * X) * BRAIN)
    assert scored.maps["uncertainty"].max() < 1e-12


def test_the_seed_decides_and_nothing_else_does() -> None:
    before = torch.get_rng_state()
    score = Scorer(Options(5)).score(Gaussian(), X, BRAIN).score
    torch.rand(3)
    again = Scorer(Options(5)).score(Gaussian(), X, BRAIN).score
    other = Scorer(Options(5, seed=1)).score(Gaussian(), X, BRAIN).score
    assert torch.equal(score, again)
    assert not torch.equal(score, other)
    torch.set_rng_state(before)
    Scorer(Options(5)).score(Gaussian(), X, BRAIN)
    assert torch.equal(torch.get_rng_state(), before)


def test_other_slices_do_not_matter_to_the_last_bit() -> None:
    together = Scorer(Options(AT_ONCE + 3)).score(Gaussian(), X, BRAIN).score
    for k in range(len(X)):
        alone = Scorer(Options(AT_ONCE + 3)).score(Gaussian(), X[k : k + 1], BRAIN[k : k + 1]).score
        assert torch.equal(together[k : k + 1], alone)


def test_memory_does_not_grow_with_the_number_of_samples() -> None:
    sizes = []

    class Counting(Gaussian):
        def sample(self, x: Tensor, n: int) -> Tensor:
            sizes.append(n)
            return x.expand(n, *x.shape)

    Scorer(Options(5 * AT_ONCE + 1)).score(Counting(), X[:1], BRAIN[:1])
    assert sizes == [*[AT_ONCE] * 5, 1]


def test_by_default_there_are_as_many_samples_as_in_the_study() -> None:
    assert Options().samples == 100


def test_a_model_without_samples_is_refused() -> None:
    """What counts is the model as built: a scale space has samples if its bands are VAEs."""
    from uadtk.checkpoint import new
    from uadtk.core.preparation import Preparation
    from uadtk.pipeline.score import check_scorer

    for band in ("ae", "vae"):
        options = {"band": band, "levels": 1, "widths": "4"}
        checkpoint = new("scalespace", options, Preparation(), scorer=Spec("montecarlo"))
        words = "scorer 'montecarlo' needs sample, which model 'scalespace' does not provide"
        refused = pytest.raises(UsageError, match=words)
        with refused if band == "ae" else nullcontext():
            check_scorer(Scorer(Options()), checkpoint.new_model(), checkpoint)
