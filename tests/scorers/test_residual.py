"""The residual scorer: image minus reconstruction, one sign of it or both, inside the brain."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

from uadtk.scorers.residual import Options, Scorer

X = torch.tensor([[[[0.9, 0.2], [0.5, 0.7]]], [[[0.1, 0.4], [0.0, 1.0]]]])
X_HAT = torch.tensor([[[[0.5, 0.6], [0.5, 0.1]]], [[[0.3, 0.1], [0.2, 0.2]]]])
BRAIN = torch.tensor([[[[True, True], [True, False]]], [[[True, True], [False, True]]]])


class Fixed:
    def reconstruct(self, x: Tensor) -> Tensor:
        assert torch.equal(x, X)
        return X_HAT


@pytest.mark.parametrize(
    ("polarity", "wanted"),
    [
        ("positive", [[[[0.4, 0.0], [0.0, 0.0]]], [[[0.0, 0.3], [0.0, 0.8]]]]),
        ("absolute", [[[[0.4, 0.4], [0.0, 0.0]]], [[[0.2, 0.3], [0.0, 0.8]]]]),
    ],
)
def test_by_hand(polarity: Literal["positive", "absolute"], wanted: list[object]) -> None:
    x, x_hat = X.clone(), X_HAT.clone()
    scored = Scorer(Options(polarity)).score(Fixed(), X, BRAIN)
    torch.testing.assert_close(scored.score, torch.tensor(wanted))
    assert scored.score.dtype == torch.float32
    torch.testing.assert_close(scored.maps["reconstruction"], X_HAT * BRAIN)
    assert torch.equal(X, x)
    assert torch.equal(X_HAT, x_hat)


def test_strides_do_not_matter() -> None:
    """Networks hand over tensors in channels-last order and views of larger ones."""
    generator = torch.Generator().manual_seed(0)
    wide = torch.rand(3, 2, 8, 16, generator=generator)
    x, x_hat = wide[:, :1, :, ::2], wide[:, 1:, :, 1::2].to(memory_format=torch.channels_last)
    brain = torch.rand(x.shape, generator=generator) > 0.3

    class Strided:
        def reconstruct(self, _: Tensor) -> Tensor:
            return x_hat

    scored = Scorer(Options()).score(Strided(), x, brain)
    torch.testing.assert_close(scored.score, (x - x_hat).clamp(min=0) * brain)


def test_a_perfect_model_finds_nothing() -> None:
    class Perfect:
        def reconstruct(self, x: Tensor) -> Tensor:
            return x

    for polarity in ("positive", "absolute"):
        assert not Scorer(Options(polarity)).score(Perfect(), X, BRAIN).score.any()
