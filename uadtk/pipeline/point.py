"""Using operating points: check that one fits the scores; find the smallest component it counts."""

from __future__ import annotations

import datetime as dt
from typing import Any

from uadtk import registry
from uadtk.checkpoint import Checkpoint
from uadtk.core.errors import UsageError
from uadtk.core.spec import Spec
from uadtk.core.thresholder import HIGHEST, MIN_VOXELS, Choice, OperatingPoint, voxels_in

GIVEN = "given"


def floor_of(point: OperatingPoint | Choice | None, voxel_ml: float) -> int:
    """Voxels of the smallest component that counts: what the point was calibrated for, else 8."""
    if point is not None and point.min_ml is not None:
        return voxels_in(point.min_ml, voxel_ml)
    return least_voxels(point)


def least_voxels(point: OperatingPoint | Choice | None) -> int:
    """Where the smallest component is not given in ml."""
    return (point and point.min_voxels) or MIN_VOXELS


def check_point(checkpoint: Checkpoint, point: OperatingPoint) -> None:
    """Raises UsageError unless the point was calibrated for this scorer and these cleaners."""
    if _meaning(point.scorer, point.cleaners) != _meaning(checkpoint.scorer, checkpoint.cleaners):
        made, now = (" ".join(map(str, (one.scorer, *one.cleaners))) for one in (point, checkpoint))
        raise UsageError(
            f"was calibrated for {made}, not for {now}",
            f"operating point '{point.name}'",
            "Run uadtk threshold with the same scorer and cleaners.",
        )


def _meaning(scorer: Spec, cleaners: tuple[Spec, ...]) -> list[tuple[str, Any]]:
    """Names with all options, whether spelled out or left at their defaults."""
    kinds: list[tuple[registry.Kind, Spec]] = [("scorers", scorer), *(("cleaners", spec) for spec in cleaners)]
    return [(spec.name, registry.options_of(kind, spec)) for kind, spec in kinds]


def given(checkpoint: Checkpoint, threshold: float) -> OperatingPoint:
    """A threshold of the user's own, for the scores of this checkpoint. It is calibrated on no scan.

    Raises
    ------
    UsageError
        It is not a number that a score can have.
    """
    if not 0 <= threshold <= HIGHEST:  # nor NaN
        raise UsageError(
            "not a threshold", f"--threshold {threshold}", "Scores are at least 0: give a number from 0 on."
        )
    return uncalibrated(checkpoint, GIVEN, threshold, "chosen by the user")


def uncalibrated(checkpoint: Checkpoint, name: str, threshold: float, target: str) -> OperatingPoint:
    """A threshold for the scores of this checkpoint that no scan was used for; ``name`` is its strategy, too."""
    return OperatingPoint(
        name=name,
        threshold=threshold,
        strategy=Spec(name),
        target=target,
        scorer=checkpoint.scorer,
        cleaners=checkpoint.cleaners,
        scans=0,
        digest="",
        date=dt.date.today().isoformat(),
    )
