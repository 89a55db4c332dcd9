"""Receipts from outside: every value is checked when it is read, and a damaged one costs one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from benchmarks.hardening.malformed import KINDS
from tests.commands import call
from uadtk.core.errors import DataError
from uadtk.io.memo import digest_of
from uadtk.study.receipt import read_receipt

DEEP: Any = 0
for _ in range(200):
    DEEP = [DEEP]


@pytest.fixture
def record(tmp_path: Path) -> dict[str, Any]:
    (kind,) = (kind for kind in KINDS if kind.name == "receipt")
    found: dict[str, Any] = json.loads(kind.valid(tmp_path))
    return found


def written(record: dict[str, Any], folder: Path) -> Path:
    path = folder / "r.json"
    path.write_text(json.dumps({**record, "digest": digest_of(record["key"])}))
    return path


def test_a_valid_receipt_passes(record: dict[str, Any], tmp_path: Path) -> None:
    assert read_receipt(written(record, tmp_path)) == record


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("key.seed", -1),
        ("key.seed", 1.5),
        ("key.seed", True),
        ("key.grid", "other"),
        ("key.device", 7),
        ("key.versions", ["numpy"]),
        ("key.preparation", None),
        ("key.cleaners", "erode"),
        ("key.point", {"name": "p98"}),
        ("key.point", {"name": "p98", "threshold": -1.0}),
        ("key.point", {"name": "p98", "strategy": "p98"}),
        ("where.threads", "-3"),
        ("where.threads", "99999"),
        ("where.cohort", None),
        ("where.split", {}),
        ("evaluation.point", None),
        ("evaluation.point.threshold", float("inf")),
        ("evaluation.point.interval", [1.0]),
        ("evaluation.scans", {"a": 1}),
        ("evaluation.scans", [{"subject": "a"}]),
        ("evaluation.measures", []),
        ("evaluation.measures", {"dice": 0.5}),
        ("evaluation.measures", {"dice": {"value": float("nan"), "interval": None}}),
        ("evaluation.measures", {"dice": {"value": 0.5, "interval": [0.1]}}),
        ("evaluation.failed", 3),
        ("evaluation.patients", "2"),
        ("evaluation.lesion_share", 7),
        ("evaluation.precision_recall", [[0.5]]),
        ("evaluation.histograms", {"normal": [1], "anomalous": [1, 2], "top": 1.0}),
        ("evaluation.options", {"seed": -5}),
        ("evaluation.anything", DEEP),
    ],
)
def test_an_impossible_value_is_one_line(where: str, value: Any, record: dict[str, Any], tmp_path: Path) -> None:
    *between, last = where.split(".")
    reduce(lambda holder, key: holder[key], between, record)[last] = value
    with pytest.raises(DataError, match=r"r\.json: is damaged: ") as caught:
        read_receipt(written(record, tmp_path))
    assert len(caught.value.one_line()) < 400


@pytest.mark.parametrize("damage", [lambda r: r["key"].pop("model"), lambda r: r["evaluation"]["scans"].append(3)])
def test_reproduce_refuses_a_damaged_receipt(
    damage: Callable[[dict[str, Any]], Any], record: dict[str, Any], tmp_path: Path
) -> None:
    damage(record)
    call("reproduce", written(record, tmp_path)).refused(DataError.exit_code, "r.json: is damaged")
