"""Sensitivity of planted lesions: counts, intervals that respect subjects, and the smallest size found."""

from __future__ import annotations

import math

import numpy as np
import pytest

from uadtk.metrics.detection import Planted, design_effect, sensitivities, smallest_found, wilson


def planted(subject: str, found: bool, size: float = 5.0, contrast: float = 0.5, place: str = "rim") -> Planted:
    return Planted(subject, size, contrast, place, 0.06, 60, found, float(found), 0.3, (0.0, 0.0, 0.0))


def test_cells_count_in_each_place_and_in_all() -> None:
    ones = [planted("a", True), planted("a", False, place="deep"), planted("b", True, size=8.0)]
    cells = {(c.place, c.contrast, c.size_mm): c for c in sensitivities(ones, (5.0, 8.0), (0.5, 1.0))}
    assert len(cells) == 4 * 4
    assert [(c.planted, c.found) for c in (cells["all", 0.5, 5.0], cells["rim", 0.5, 5.0])] == [(2, 1), (1, 1)]
    assert cells["all", 0.5, 8.0].share == 1
    empty = cells["base", 1.0, 5.0]
    assert (empty.planted, empty.subjects) == (0, 0)
    assert math.isnan(empty.share + empty.low + empty.high)


def test_wilsons_interval() -> None:
    """Values of Newcombe 1998, Table I."""
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0 / 20, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(1.0, 20)[1] == 1


def test_implants_that_agree_within_subjects_widen_the_interval() -> None:
    """Ten subjects with six implants each: all or none found in a subject is worth ten implants, not sixty."""
    alike = [planted(f"s{i}", i % 2 == 0, place=place) for i in range(10) for place in ("rim", "deep", "base") * 2]
    mixed = [planted(f"s{i}", k % 2 == 0) for i in range(10) for k in range(6)]
    (one,), (other,) = ([c for c in sensitivities(own, (5.0,), (0.5,)) if c.place == "all"] for own in (alike, mixed))
    assert one.share == other.share == 0.5
    assert (one.low, one.high) == pytest.approx(wilson(0.5, 10))
    assert (other.low, other.high) == pytest.approx(wilson(0.5, 60))


def test_all_found_is_no_interval_of_width_0() -> None:
    (cell,) = (c for c in sensitivities([planted(f"s{i}", True) for i in range(8)], (5.0,), (0.5,)) if c.place == "all")
    assert cell.high == 1
    assert 0.6 < cell.low < 0.8


@pytest.mark.parametrize("correlated", [0.0, 0.5])
def test_intervals_hold_what_they_promise(correlated: float) -> None:
    """20 subjects, 3 implants each, 8 cells: about 95 % of intervals hold the true share."""
    rng = np.random.default_rng(0)
    truth, held, total = np.linspace(0.1, 0.9, 8), 0, 0
    for _ in range(60):
        drawn = rng.random((8, 20, 3))
        same = rng.random((8, 20, 1)) < correlated
        own = np.where(same, drawn[..., :1], drawn) < truth[:, None, None]
        tally = np.stack([np.full((8, 20), 3.0), own.sum(axis=2)], axis=2)
        effect = design_effect(tally)
        for share, cell in zip(truth, own, strict=True):
            low, high = wilson(float(cell.mean()), max(60 / effect, 20))
            held += low <= share <= high
            total += 1
    assert 0.92 < held / total < 0.98


def test_the_smallest_size_has_every_larger_one_found_too() -> None:
    def shares(*of_ten: int) -> float | None:
        ones = [
            planted(f"s{k}", k < n, size=s) for s, n in zip((3.0, 5.0, 8.0), of_ten, strict=True) for k in range(10)
        ]
        return smallest_found(sensitivities(ones, (3.0, 5.0, 8.0), (0.5,)), 0.5)

    assert shares(0, 8, 10) == 5
    assert shares(9, 7, 10) == 8
    assert shares(10, 10, 7) is None
    assert shares(10, 9, 8) == 3
