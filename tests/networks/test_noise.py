"""Coarse noise: of the size asked for, coarse, and only in the brain."""

from __future__ import annotations

import pytest
import torch

from uadtk.networks.noise import coarse_noise
from uadtk.networks.seeded import seeded

EVERYWHERE = torch.ones(64, 1, 128, 128, dtype=torch.bool)


def drawn(std: float = 0.2, cells: int = 16, seed: int = 0, brain: torch.Tensor = EVERYWHERE) -> torch.Tensor:
    with seeded(seed):
        return coarse_noise(brain, std, cells)


def test_shape_mean_and_spread() -> None:
    """Bilinear weights 1/4 to 3/4 and so on leave about 2/3 of the standard deviation that was drawn."""
    noise = drawn()
    assert noise.shape == EVERYWHERE.shape
    assert noise.dtype == torch.float32
    assert abs(noise.mean()) < 0.01
    assert noise.std() == pytest.approx(0.2 * 2 / 3, rel=0.05)
    torch.testing.assert_close(drawn(std=0.4), 2 * drawn(std=0.2))


def test_it_is_coarse() -> None:
    """Neighbours are alike, pixels two cells (16 pixels) away are not."""
    noise = drawn() - drawn().mean()

    def correlation(step: int) -> float:
        return float((noise[..., step:] * noise[..., :-step]).mean() / noise.pow(2).mean())

    assert correlation(1) > 0.95
    assert abs(correlation(20)) < 0.05
    fine = drawn(cells=64) - drawn(cells=64).mean()
    assert (fine[..., 8:] * fine[..., :-8]).mean() / fine.pow(2).mean() < 0.05 < correlation(8)


def test_nothing_outside_the_brain_and_each_image_its_own() -> None:
    brain = EVERYWHERE.clone()
    brain[..., :50] = False
    noise = drawn(brain=brain)
    assert not noise[~brain].any()
    assert noise[brain].count_nonzero() > 0.99 * brain.sum()
    assert not torch.equal(noise[0], noise[1])


def test_the_grid_is_shifted_between_batches() -> None:
    """Else the model could learn where the cells are: the kinks of the interpolation must not stay in place."""

    def kinks(seed: int) -> int:
        bend = drawn(seed=seed).diff(n=2, dim=3).abs().mean(dim=(0, 1, 2))
        return int(bend.reshape(-1)[:120].reshape(15, 8).mean(dim=0).argmax())

    assert len({kinks(seed) for seed in range(12)}) > 3


def test_seeded() -> None:
    assert torch.equal(drawn(seed=5), drawn(seed=5))
    assert not torch.equal(drawn(seed=5), drawn(seed=6))
