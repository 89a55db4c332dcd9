"""Ranks over universes and effects on DICE, worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from uadtk.metrics.multiverse import SWITCHES, Driver, Multiverse, Rank, Universe, drivers, ranks

APPROX: Any = pytest.approx  # in place of a float


def universe(dice: float, **changed: object) -> Universe:
    plain = {"rule": "p98", "erosion": 0, "median_mm": 0.0, "min_voxels": 1, "grid": "native"}
    return Universe(**{**plain, **changed}, dice=dice)  # type: ignore[arg-type]


def method(label: str, *universes: Universe, collection: str = "ms") -> Multiverse:
    return Multiverse(collection, label, universes)


def by_erosion(label: str, *dice: float) -> Multiverse:
    return method(label, *(universe(value, erosion=pixels) for pixels, value in enumerate(dice)))


def test_choices_are_the_switches_of_a_universe_in_their_order() -> None:
    one = universe(0.5, rule="oracle", erosion=3, median_mm=6.0, min_voxels=8, grid="model")
    assert one.choices == tuple(getattr(one, switch) for switch in SWITCHES) == ("oracle", 3, 6.0, 8, "model")


def test_ranks_of_three_methods_in_four_universes() -> None:
    found = [
        by_erosion("vae", 0.4, 0.4, 0.1, 0.3),  # ranks 2, 1, 3, 2
        by_erosion("ae", 0.5, 0.3, 0.2, 0.4),  # ranks 1, 2, 2, 1
        by_erosion("histeq", 0.1, 0.2, 0.6, 0.1),  # ranks 3, 3, 1, 3
    ]
    assert ranks(found) == [
        Rank("ms", "ae", 4, 1.5, 1, 2, 0.5, 0.2, APPROX(0.35), 0.5),
        Rank("ms", "vae", 4, 2, 1, 3, 0.25, 0.1, APPROX(0.35), 0.4),
        Rank("ms", "histeq", 4, 3, 1, 3, 0.25, 0.1, APPROX(0.15), 0.6),
    ]


def test_of_equal_dice_all_have_the_mean_rank_and_all_are_first() -> None:
    found = ranks([by_erosion("a", 0.5, 0.2), by_erosion("b", 0.5, 0.3), by_erosion("c", 0.1, 0.3)])
    assert {rank.label: (rank.best, rank.worst, rank.first) for rank in found} == {
        "a": (1.5, 3, 0.5),
        "b": (1.5, 1.5, 1),
        "c": (1.5, 3, 0.5),
    }


def test_only_universes_that_all_methods_have_are_ranked() -> None:
    fewer = method("b", universe(0.2, erosion=1), universe(0.9, rule="healthy-fp"))
    found = ranks([by_erosion("a", 0.1, 0.3, 0.9), fewer])
    assert [(rank.label, rank.universes, rank.worst, rank.dice_high) for rank in found] == [
        ("a", 1, 1, 0.3),
        ("b", 1, 2, 0.2),
    ]
    assert ranks([by_erosion("a", 0.1), method("b", universe(0.2, grid="model"))]) == []


def test_a_collection_is_ranked_on_its_own() -> None:
    found = ranks([by_erosion("a", 0.1), method("a", universe(0.8), collection="lgg"), by_erosion("b", 0.2)])
    assert [(rank.collection, rank.label, rank.median) for rank in found] == [
        ("ms", "b", 1),
        ("ms", "a", 2),
        ("lgg", "a", 1),
    ]


def test_what_a_switch_moves_is_its_range_with_all_others_held_averaged_over_them_and_the_methods() -> None:
    def square(label: str, *dice: float) -> Multiverse:
        ways = [(erosion, grid) for erosion in (0, 3) for grid in ("native", "model")]
        return method(label, *(universe(d, erosion=e, grid=g) for (e, g), d in zip(ways, dice, strict=True)))

    found = drivers([square("a", 0.5, 0.5, 0.1, 0.3), square("b", 0.2, 0.2, 0.2, 0.4)])
    # erosion: 0.4 and 0.2 of a, 0 and 0.2 of b; grid: 0 and 0.2 of a, 0 and 0.2 of b; the others never change
    assert found == [Driver("ms", "erosion", APPROX(0.2)), Driver("ms", "grid", APPROX(0.1))]


def test_a_switch_that_has_one_value_with_the_others_held_moves_nothing() -> None:
    apart = method("a", universe(0.1), universe(0.9, erosion=3, median_mm=6.0), universe(0.4, rule="oracle"))
    assert drivers([apart]) == [Driver("ms", "rule", APPROX(0.3))]
