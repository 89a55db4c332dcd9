from __future__ import annotations

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
