"""Correlation of measures, domain shift and training size, against closed forms and scipy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from uadtk.metrics.study import by_site, by_size, correlations


def scan(subject: str, site: str | None, dice: float | None) -> dict[str, Any]:
    return {"subject": subject, "site": site, "dice": dice}


def test_the_mean_of_a_site_is_over_patients_not_scans() -> None:
    scans = [scan("a", "x", 0.0), scan("a", "x", 1.0), scan("b", "x", 1.0), scan("c", "y", 0.25), scan("d", "y", None)]
    found = by_site(scans, "dice")
    assert list(found) == ["x", "y"]
    assert (found["x"].patients, found["x"].value) == (2, 0.75)
    # two patients are drawn as (a, a), (a, b), (b, b): the 2.5 and 97.5 % quantiles are the extremes
    assert found["x"].interval == (0.5, 1.0)
    assert (found["y"].patients, found["y"].value, found["y"].interval) == (1, 0.25, None)


def test_scans_without_a_site_are_together_be_it_unnamed_or_not_recorded() -> None:
    found = by_site([scan("a", None, 0.5), {"subject": "b", "dice": 0.25}], "dice")
    assert [(site, mean.patients, mean.value) for site, mean in found.items()] == [("", 2, 0.375)]


def test_a_site_without_any_value_is_no_site() -> None:
    assert by_site([scan("a", "x", None)], "dice") == {}


def test_rows_are_grouped_if_they_differ_in_the_number_of_training_scans() -> None:
    rows = [("vae", 30, "c"), ("vae", 6, "a"), ("vae", 6, "b"), ("ae", 6, "d"), ("ae", 6, "e"), ("ae", None, "f")]
    assert by_size(rows) == {"vae": [(6, "a"), (6, "b"), (30, "c")]}


def test_correlations_are_those_of_scipy() -> None:
    columns = np.random.default_rng(0).integers(0, 5, (9, 3)).astype(float)  # with ties
    pearson, spearman = correlations(columns)
    for i in range(3):
        for k in range(3):
            assert pearson[i, k] == pytest.approx(stats.pearsonr(columns[:, i], columns[:, k])[0])
            assert spearman[i, k] == pytest.approx(stats.spearmanr(columns[:, i], columns[:, k])[0])


def test_a_curved_rise_is_one_in_ranks_alone() -> None:
    x = np.arange(5.0)
    pearson, spearman = correlations(np.column_stack([x, x**3, -x]))
    assert spearman.round(12).tolist() == [[1, 1, -1], [1, 1, -1], [-1, -1, 1]]
    assert 0.9 < pearson[0, 1] < 0.95


def test_what_does_not_vary_correlates_with_nothing() -> None:
    pearson, spearman = correlations([[0.1, 1.0], [0.1, 2.0], [0.1, 4.0]])
    for found in (pearson, spearman):
        assert np.isnan(found).tolist() == [[True, True], [True, False]]
        assert found[1, 1] == pytest.approx(1)
