"""Random fields and statistics, slice by slice."""

from __future__ import annotations

import pytest
import torch

from uadtk.networks.fields import (
    blurred,
    chance,
    filtered,
    gaussian,
    log_uniform,
    percentile,
    smooth_noise,
    spread,
    uniform,
)
from uadtk.testing.contract import generators_untouched


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_draws_are_one_per_slice_and_in_range() -> None:
    with generators_untouched():
        even, logs, coins = (
            uniform(4000, 2, 4, seeded()),
            log_uniform(4000, 1, 100, seeded()),
            chance(4000, 0.3, seeded()),
        )
    assert even.shape == logs.shape == coins.shape == (4000, 1, 1, 1)
    assert 2 <= even.min() < 2.01
    assert 3.99 < even.max() < 4
    assert 9 < logs.median() < 11
    assert set(coins.flatten().tolist()) == {0.0, 1.0}
    assert coins.mean() == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize("side", [48, 64, 128])
@pytest.mark.parametrize("cells", [3, 6, 16])
def test_smooth_noise_is_standard_and_as_coarse_as_asked_for(side: int, cells: int) -> None:
    noise = smooth_noise(64, side, cells, seeded())
    assert noise.shape == (64, 1, side, side)
    assert abs(noise.mean()) < 0.15
    assert 0.85 < noise.std() < 1.15

    def correlation(step: int) -> float:
        return float((noise[..., step:] * noise[..., :-step]).mean() / noise.square().mean())

    assert correlation(max(1, side // cells // 6)) > 0.9
    assert abs(correlation(2 * side // cells + 1)) < 0.25


def test_each_slice_has_its_own_blur_and_keeps_its_sum() -> None:
    point = torch.zeros(3, 1, 64, 64)
    point[:, :, 32, 32] = 1
    sigma = torch.tensor([0.0, 1.5, 4.0])[:, None, None, None]
    made = blurred(point, sigma)
    torch.testing.assert_close(made.sum(dim=(1, 2, 3)), torch.ones(3))
    torch.testing.assert_close(made[0], point[0], atol=1e-6, rtol=0)
    distance = (torch.arange(64) - 32.0).square()
    variance = (made.sum(dim=(1, 2)) * distance).sum(1)
    torch.testing.assert_close(variance, sigma.flatten().square(), atol=1e-3, rtol=1e-3)


def test_a_blur_may_differ_between_the_axes() -> None:
    point = torch.zeros(1, 1, 32, 32)
    point[..., 16, 16] = 1
    one = torch.ones(1, 1, 1, 1)
    made = filtered(point, gaussian(32, 3 * one, 0 * one))[0, 0]
    assert (made[:, 16] > 1e-3).sum() > 10
    assert made[:, :16].abs().max() < 1e-6


def test_percentiles_are_of_what_is_inside() -> None:
    side = 64
    image = torch.arange(side * side, dtype=torch.float32).view(1, 1, side, side).repeat(2, 1, 1, 1)
    inside = torch.ones_like(image, dtype=torch.bool)
    inside[1, :, : side // 2] = False
    found = percentile(image, inside, 50)
    assert found.shape == (2, 1, 1, 1)
    assert found.flatten().tolist() == pytest.approx([side * side / 2, side * side * 0.75], rel=0.03)
    assert percentile(image, inside, 98).flatten()[0] == pytest.approx(0.98 * side * side, rel=0.03)
    assert percentile(image, inside & False, 50).flatten().tolist() == [1.0, 1.0]


def test_spread_is_the_share_of_a_mask_around() -> None:
    mask = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    mask[..., :32] = True
    share = spread(mask, 12)[0, 0, 32]
    assert share[:22].min() > 0.99
    assert share[42:].max() < 0.01
    assert share[31:33].mean() == pytest.approx(0.5, abs=0.01)
    assert (share.diff() <= 1e-6).all()
