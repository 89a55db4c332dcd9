"""The gradient scorer, on models whose gradient is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from uadtk.scorers.gradient import Options, Scorer

GENERATOR = torch.Generator().manual_seed(0)
X = torch.rand(3, 1, 8, 8, generator=GENERATOR)
BRAIN = torch.rand(3, 1, 8, 8, generator=GENERATOR) > 0.2
NORMAL = torch.rand(1, 1, 8, 8, generator=GENERATOR)


class LinearGaussian(nn.Module):
    """x = x0 + W z + noise: reconstruction by projection, -log p(x) = ½ (x - x0)ᵀ (W Wᵀ + I)⁻¹ (x - x0)."""

    def __init__(self) -> None:
        super().__init__()
        weights = torch.randn(64, 5, generator=torch.Generator().manual_seed(1))
        self.basis = nn.Parameter(weights)

    def objective(self, x: Tensor) -> Tensor:
        off = (x - NORMAL).flatten(1)
        z = torch.linalg.solve(self.basis.T @ self.basis + torch.eye(5), self.basis.T @ off.T).T
        return 0.5 * ((off - z @ self.basis.T).square().sum(1) + z.square().sum(1))

    def reconstruct(self, x: Tensor) -> Tensor:
        off = (x - NORMAL).flatten(1)
        return NORMAL + (off @ torch.linalg.pinv(self.basis).T @ self.basis.T).unflatten(1, (1, 8, 8))

    def precision_times(self, x: Tensor) -> Tensor:
        inverse = torch.linalg.inv((self.basis @ self.basis.T + torch.eye(64)).double())
        return ((x - NORMAL).flatten(1).double() @ inverse).float().unflatten(1, (1, 8, 8))


@pytest.mark.parametrize("frozen", [False, True])
def test_paper_is_the_gradient_of_minus_log_p(frozen: bool) -> None:
    """grad -log p(x) = (W Wᵀ + I)⁻¹ (x - x0); frozen weights or not, and no weight gets a gradient."""
    model = LinearGaussian().requires_grad_(not frozen)
    exact = model.precision_times(X).detach() * BRAIN
    scored = Scorer(Options("paper", "absolute")).score(model, X, BRAIN)
    torch.testing.assert_close(scored.score, exact.abs(), atol=1e-5, rtol=1e-4)
    bright = Scorer(Options("paper", "positive")).score(model, X, BRAIN)
    torch.testing.assert_close(bright.score, exact.clamp(min=0), atol=1e-5, rtol=1e-4)
    assert model.basis.grad is None
    assert not scored.score.requires_grad
    assert not X.requires_grad
    assert not scored.maps


@pytest.mark.parametrize("polarity", ["positive", "absolute"])
def test_product_with_the_residual(polarity) -> None:
    model = LinearGaussian()
    scored = Scorer(Options("product", polarity)).score(model, X, BRAIN)
    difference = X - model.reconstruct(X).detach()
    residual = difference.abs() if polarity == "absolute" else difference.clamp(min=0)
    exact = residual * model.precision_times(X).detach().abs() * BRAIN
    torch.testing.assert_close(scored.score, exact, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(scored.maps["reconstruction"], model.reconstruct(X).detach() * BRAIN)
    assert not scored.score.requires_grad


def test_slices_do_not_mix() -> None:
    model = LinearGaussian()
    together = Scorer(Options()).score(model, X, BRAIN).score
    alone = torch.cat([Scorer(Options()).score(model, X[k : k + 1], BRAIN[k : k + 1]).score for k in range(3)])
    torch.testing.assert_close(together, alone)


def test_an_objective_that_draws_leaves_the_generator_as_it_was() -> None:
    class Drawing:
        def objective(self, x: Tensor) -> Tensor:
            return (x * torch.randn(8, 8)).flatten(1).sum(1)

    before = torch.get_rng_state()
    one, two = (Scorer(Options("paper")).score(Drawing(), X, BRAIN).score for _ in range(2))
    assert torch.equal(one, two)
    assert one.any()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("form", "needs"), [("paper", {"objective"}), ("product", {"objective", "reconstruct"})])
def test_only_the_product_needs_a_reconstruction(form, needs) -> None:
    assert set(Scorer(Options(form)).needs) == needs
    assert Scorer.needs == ("objective", "reconstruct")


def test_the_default_tells_a_lesion_from_tissue() -> None:
    """With Σ|x − x̂| the gradient alone is ±1 in both, whatever the error; the product follows the error."""

    class Perfect:
        def reconstruct(self, x: Tensor) -> Tensor:
            return NORMAL.expand(len(x), -1, -1, -1)

        def objective(self, x: Tensor) -> Tensor:
            return (x - NORMAL).abs().flatten(1).sum(1)

    noise = 0.02 * torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    lesion = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    lesion[..., 2:5, 3:5] = True
    x, brain = NORMAL + noise + 0.4 * lesion, torch.ones_like(lesion)
    score = Scorer(Options()).score(Perfect(), x, brain).score
    assert score[lesion].min() > score[~lesion].max()
    literal = Scorer(Options("paper", "absolute")).score(Perfect(), x, brain).score
    torch.testing.assert_close(literal, torch.ones_like(literal))
