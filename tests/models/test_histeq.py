"""Histogram equalisation is the empirical distribution function of the brain's intensities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from uadtk.core.errors import UsageError
from uadtk.core.options import build
from uadtk.models.histeq import Model, Options


def scored(values: list[float], bins: int = 0) -> list[float]:
    x = torch.tensor(values).reshape(1, 1, 1, -1)
    return Model(Options(bins), 128).score(x, torch.ones_like(x, dtype=torch.bool)).flatten().tolist()


def test_the_score_is_the_share_that_is_not_brighter() -> None:
    assert scored([0.3, 0.1, 0.4, 0.2]) == pytest.approx([0.75, 0.25, 1.0, 0.5])


def test_ties_share_the_highest_rank() -> None:
    assert scored([0.2, 0.1, 0.2, 0.3]) == pytest.approx([0.75, 0.25, 0.75, 1.0])
    assert scored([0.5, 0.5, 0.5]) == [1.0, 1.0, 1.0]


def test_it_is_scipys_rank_over_the_whole_scan() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(5, 1, 16, 16, generator=generator).mul(50).round() / 50  # with ties
    brain = torch.rand(x.shape, generator=generator) > 0.4
    score = Model(Options(), 16).score(x, brain)
    values = x[brain].numpy()
    np.testing.assert_allclose(score[brain].numpy(), rankdata(values, method="max") / values.size, rtol=1e-6)
    assert not score[~brain].any()


@pytest.mark.parametrize("change", [lambda x: 3 * x + 1, torch.exp, lambda x: x**3])
def test_any_rising_change_of_contrast_changes_nothing(change: object) -> None:
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    brain = torch.ones_like(x, dtype=torch.bool)
    model = Model(Options(), 8)
    torch.testing.assert_close(model.score(change(x), brain), model.score(x, brain), rtol=0, atol=0)


def test_bins_are_grey_levels_of_the_brightest() -> None:
    """Four levels of 0.25 each: 0.1 and 0.2 fall together, the brightest is in the last."""
    assert scored([0.1, 0.2, 0.3, 0.6, 1.0], bins=4) == pytest.approx([0.4, 0.4, 0.6, 0.8, 1.0])
    assert scored([0.2, 0.4, 0.6, 1.2, 2.0], bins=4) == pytest.approx([0.4, 0.4, 0.6, 0.8, 1.0])
    assert scored([0.1, 0.2, 0.3], bins=1) == [1.0, 1.0, 1.0]


def test_many_bins_come_to_the_exact_rank() -> None:
    values = torch.linspace(0.05, 1, 20).tolist()
    assert scored(values, bins=65536) == pytest.approx(scored(values))


def test_no_brain_and_dark_brain() -> None:
    x = torch.rand(1, 1, 4, 4)
    model = Model(Options(), 4)
    assert not model.score(x, torch.zeros_like(x, dtype=torch.bool)).any()
    assert scored([0.0, 0.0], bins=256) == [1.0, 1.0]


def test_options_are_checked() -> None:
    with pytest.raises(UsageError, match="bins=-1: must be at least 0"):
        build(Options, {"bins": -1}, "histeq")
