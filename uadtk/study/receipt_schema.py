"""The values that a receipt may hold: what ``uadtk.study.receipt`` and the pages of a benchmark use of it."""

from __future__ import annotations

import re
from typing import Any

from uadtk.core.schema import Check, items, mapping, number, one_of, optional, plain, record, text, whole
from uadtk.core.thresholder import POINT


def _digits(value: Any, name: str) -> None:
    if not isinstance(value, str) or not re.fullmatch("[0-9]{1,4}", value):
        raise ValueError(f"{name} is not a number of threads")


_count, _share, _spec = whole(0, 2**50), number(0, 1), text(1000)
_grid, _seed = one_of("native", "model"), whole(0, 2**32 - 1)
_model = {"name": text(200), "options": mapping(plain)}


def _rule(value: Any, name: str) -> None:
    """A point of the checkpoint, or how one is calibrated."""
    how: dict[str, Check] = {"strategy": _spec, "scans": text(200)}
    calibrated = isinstance(value, dict) and "strategy" in value
    record({"name": text(200), **(how if calibrated else {"threshold": number(ge=0)})})(value, name)


_KEY = record(
    {
        "model": record(_model),
        "preparation": mapping(plain),
        "scorer": _spec,
        "cleaners": items(_spec, 100),
        **dict.fromkeys(("checkpoint_digest", "cohort_digest", "device"), text(200)),
        "grid": _grid,
        "point": optional(_rule),
        "seed": _seed,
        "versions": mapping(text(200)),
    },
    {"contrast": text(200)},
)
_SCAN = record(
    {"subject": text(), "labelled": one_of(True, False), **dict.fromkeys(("dice", "auprc"), optional(_share))},
    {"image": text(), "site": optional(text())},
)
_MEASURE = record({"value": optional(number()), "interval": optional(items(number(), 2, 2))})
_BINS = items(number(ge=0), 10_000)
_EVALUATION = record(
    {
        "grid": _grid,
        "point": optional(POINT),
        "scans": items(_SCAN, 10**6),
        "failed": items(items(text(), 2, 2), 10**6),
        "patients": _count,
        "lesion_share": optional(_share),
        "measures": mapping(_MEASURE),
    },
    {
        "precision_recall": items(items(_share, 2, 2), 10**6),
        "histograms": record({}, {"normal": _BINS, "anomalous": _BINS, "top": number(ge=0)}),
        "options": record({}, {"learned_scans": optional(_count), "seed": _seed, "model": record(_model)}),
    },
)
_WHERE = record(dict.fromkeys(("model", "cohort", "split", "collection"), text()), {"threads": _digits})


def check_receipt(value: Any, name: str) -> None:
    record({"key": _KEY, "where": _WHERE, "evaluation": _EVALUATION})(value, name)
    rule, point = value["key"]["point"], value["evaluation"]["point"]
    if rule is not None and point is None:
        raise ValueError(f"{name} lacks the operating point that its key names")
    if histograms := value["evaluation"].get("histograms"):
        normal, anomalous = (histograms.get(kind) for kind in ("normal", "anomalous"))
        if not normal or not anomalous or len(normal) != len(anomalous) or "top" not in histograms:
            raise ValueError(f"{name}.evaluation.histograms are not two of equal length")
