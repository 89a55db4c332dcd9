"""Which contrast a cohort has, before a model is trained on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from uadtk.core.run import Run, silent
from uadtk.io.cohort import Row, read_row
from uadtk.pipeline.each import each
from uadtk.preparation.brain import find_brain
from uadtk.preparation.gate import contrast_of, numbers
from uadtk.preparation.kinds import contrast_named

LOOKED_AT = 9  # scans without a telling name, spread over the cohort


def usual_contrast(rows: Sequence[Row], run: Run) -> dict[str, Any]:
    """How many scans have which contrast: statistics for the gate, which then refuses those of another one.

    By their names where these tell; else by the tissues of a few.
    """
    named = Counter(contrast_named(row.image.name) for row in rows)
    unnamed = named.pop("", 0)
    if named.total() >= unnamed:
        return {"contrasts": dict(named)}
    quiet = replace(run, say=silent, timings={})  # a scan that fails is reported when it is prepared

    some = rows[:: max(1, -(-len(rows) // LOOKED_AT))]
    outcomes = each(some, _contrast, quiet, "looking at the contrast", alone=False)
    return {"contrasts": dict(Counter(outcome.result for outcome in outcomes if outcome.error is None))}


def _contrast(_: int, row: Row, run: Run) -> str:
    scan, brain_mask = read_row(row, run)
    return contrast_of(numbers(scan, find_brain(scan, brain_mask, run.device)[0]))
