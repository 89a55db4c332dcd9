"""What the training scans are like, so that the gate can say how far a new scan is from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from uadtk.core.run import Run, silent
from uadtk.io.cohort import Row, read_row
from uadtk.pipeline.each import each
from uadtk.preparation.brain import find_brain
from uadtk.preparation.gate import numbers, statistics_of

AT_MOST = 100  # scans: the range of more is hardly wider


def scan_statistics(rows: Sequence[Row], run: Run) -> dict[str, Any]:
    """``statistics_of`` these scans, or of some spread over them; those that cannot be read are left out."""
    quiet = replace(run, say=silent)  # a scan that fails has been reported
    some = rows[:: max(1, -(-len(rows) // AT_MOST))]
    outcomes = each(some, _numbers, quiet, "statistics", alone=False)
    return statistics_of([outcome.result for outcome in outcomes if outcome.error is None])


def _numbers(_: int, row: Row, run: Run) -> dict[str, float]:
    scan, brain_mask = read_row(row, run)
    return numbers(scan, find_brain(scan, brain_mask, run.device)[0])
