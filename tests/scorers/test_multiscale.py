"""The multiscale scorer: patterns whose pyramid is known on paper, and the definition on random slices."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from uadtk.core.errors import UsageError
from uadtk.networks.pyramid import Pyramid
from uadtk.scorers.multiscale import Options, Scorer

GENERATOR = torch.Generator().manual_seed(0)
X, X_HAT = torch.rand(2, 2, 1, 32, 32, generator=GENERATOR)
BRAIN = torch.zeros(2, 1, 32, 32, dtype=torch.bool)
BRAIN[0, :, 4:28, 6:25] = BRAIN[1, :, :, :20] = True
EVERYWHERE = torch.ones_like(BRAIN)
CHECKERS = 1 - 2 * ((torch.arange(32)[:, None] + torch.arange(32)) % 2).float().expand(2, 1, 32, 32)


class Says:
    def __init__(self, reconstruction: Tensor) -> None:
        self.reconstruction = reconstruction

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.reconstruction


def score(x: Tensor, reconstruction: Tensor, brain: Tensor, **options: Any) -> Tensor:
    return Scorer(Options(**options)).score(Says(reconstruction), x, brain).score


@pytest.mark.parametrize("take", ["mean", "max"])
def test_what_is_the_same_at_every_scale_keeps_its_size(take: str) -> None:
    """A blur keeps a constant, halving and doubling too."""
    grey = torch.full_like(X, 0.5)
    torch.testing.assert_close(score(grey + 0.2, grey, EVERYWHERE, take=take), torch.full_like(X, 0.2))
    assert not score(grey - 0.2, grey, EVERYWHERE, take=take).any()
    darker = score(grey - 0.2, grey, EVERYWHERE, take=take, polarity="absolute")
    torch.testing.assert_close(darker, torch.full_like(X, 0.2))


@pytest.mark.parametrize("levels", [1, 3])
def test_what_is_in_the_finest_scale_alone_counts_as_one_of_them(levels: int) -> None:
    """Pixels up and down in turn are nothing once averaged two by two."""
    for polarity, residual in (("positive", CHECKERS.clamp(min=0)), ("absolute", CHECKERS.abs())):
        for take, share in (("mean", 1 / (levels + 1)), ("max", 1.0)):
            found = score(X + CHECKERS, X, EVERYWHERE, levels=levels, take=take, polarity=polarity)
            torch.testing.assert_close(found, share * residual, rtol=0, atol=1e-6)


@pytest.mark.parametrize("take", ["mean", "max"])
@pytest.mark.parametrize("polarity", ["positive", "absolute"])
def test_residuals_of_both_pyramids_are_signed_then_enlarged_step_by_step(take: Any, polarity: Any) -> None:
    pyramid = Pyramid(2)
    residuals = []
    for k, (image, rebuilt) in enumerate(zip(*(pyramid.scales(i * BRAIN) for i in (X, X_HAT)), strict=True)):
        residual = (image - rebuilt).clamp(min=0) if polarity == "positive" else (image - rebuilt).abs()
        for _ in range(k):
            residual = F.interpolate(residual, scale_factor=2, mode="bilinear", align_corners=False)
        residuals.append(residual)
    together = sum(residuals) / 3 if take == "mean" else residuals[0].maximum(residuals[1]).maximum(residuals[2])
    x, x_hat, brain = X.clone(), X_HAT.clone(), BRAIN.clone()
    scored = Scorer(Options(levels=2, take=take, polarity=polarity)).score(Says(X_HAT), X, BRAIN)
    torch.testing.assert_close(scored.score, together * BRAIN)
    assert torch.equal(scored.maps["reconstruction"], X_HAT * BRAIN)
    assert torch.equal(X, x)
    assert torch.equal(X_HAT, x_hat)
    assert torch.equal(BRAIN, brain)


def test_what_is_outside_the_brain_reaches_inside_at_no_scale() -> None:
    """A blur at 4 pixels mixes what is 16 pixels apart."""
    told = score(X * BRAIN, X_HAT, BRAIN)
    assert torch.equal(told, score(X * BRAIN, torch.where(BRAIN, X_HAT, -100), BRAIN))
    assert torch.equal(told, score(X, X_HAT, BRAIN))
    assert not told[~BRAIN].any()


def test_a_perfect_model_finds_nothing() -> None:
    for polarity in ("positive", "absolute"):
        assert not score(X, X, BRAIN, polarity=polarity).any()


@pytest.mark.parametrize(("side", "levels"), [(32, 4), (36, 3), (16, 3)])
def test_slices_that_cannot_be_halved_so_often_are_refused_before_the_model_is_asked(side: int, levels: int) -> None:
    x = torch.zeros(1, 1, side, side)
    with pytest.raises(UsageError, match=f"levels: slices of {side} pixels cannot be halved {levels} times"):
        Scorer(Options(levels=levels)).score(None, x, x > 0)


def test_four_pixels_at_the_coarsest_scale_are_enough() -> None:
    x = torch.ones(1, 1, 16, 16)
    torch.testing.assert_close(score(x, 0 * x, x > 0, levels=2), x)
