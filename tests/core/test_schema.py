from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest

from uadtk.core import schema
from uadtk.core.errors import CheckpointError
from uadtk.core.spec import Spec
from uadtk.core.thresholder import OperatingPoint


def _point(**changes: Any) -> dict[str, Any]:
    point = OperatingPoint("p98", 0.5, Spec("p98"), "2 %", Spec("residual"), (), 3, "ab", "2026-01-01")
    return {**point.to_json(), **changes}


@pytest.mark.parametrize(("values", "said"), [([], "list of 2"), ([1.0], "list of 2"), ([1.0] * 3, "list of 2")])
def test_a_list_of_a_fixed_length(values: list[float], said: str) -> None:
    check = schema.items(schema.number(), 2, 2)
    check([1.0, 2.0], "interval")
    with pytest.raises(ValueError, match=said):
        check(values, "interval")


@pytest.mark.parametrize("interval", [[], [0.1], [0.1, 0.2, 0.3], {"0": 1}, "ab"])
def test_an_interval_of_a_point_has_two_ends(interval: Any) -> None:
    with pytest.raises(CheckpointError, match="interval"):
        OperatingPoint.from_json(_point(interval=interval))


def test_findings_that_are_recorded_in_part_are_not_shown() -> None:
    assert OperatingPoint.from_json(_point(measured={"findings_median": 1.0})).lesion_free == ""


@dataclass
class Small:
    name: str
    share: float
    where: tuple[int, int]


def test_a_mapping_like_a_dataclass() -> None:
    check = schema.like(Small, where=schema.items(schema.whole(0, 9), 2, 2))
    check({"name": "a", "share": 0.5, "where": [1, 2]}, "x")
    for wrong in ({"name": 3}, {"share": math.nan}, {"where": [1]}, {"other": 1}):
        with pytest.raises(ValueError, match=r"^x"):
            check({"name": "a", "share": 0.5, "where": [1, 2], **wrong}, "x")
    with pytest.raises(ValueError, match="lacks"):
        check({"name": "a"}, "x")


@pytest.mark.parametrize("value", [1, "true", None, 1.0])
def test_one_of_tells_true_from_1(value: Any) -> None:
    schema.one_of(True, False)(True, "x")
    with pytest.raises(ValueError, match="not one of True, False"):
        schema.one_of(True, False)(value, "x")
