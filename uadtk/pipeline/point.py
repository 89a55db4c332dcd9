"""Operating points in use: whether one fits the scores, and the smallest component it counts."""

from __future__ import annotations

from uadtk import registry
from uadtk.checkpoint import Checkpoint
from uadtk.core.errors import UsageError
from uadtk.core.thresholder import OperatingPoint
from uadtk.pipeline.score import same_spec

MIN_VOXELS = 8  # of the study


def floor_of(point: OperatingPoint | None) -> int:
    """Voxels of the smallest component that counts: what the point was calibrated for, else 8."""
    return (point and point.min_voxels) or MIN_VOXELS


def check_point(checkpoint: Checkpoint, point: OperatingPoint) -> None:
    """A threshold holds only for scores made the way its calibration made them."""
    made, now = (point.scorer, *point.cleaners), (checkpoint.scorer, *checkpoint.cleaners)
    kinds: list[registry.Kind] = ["scorers", *(["cleaners"] * len(point.cleaners))]  # type: ignore[list-item]
    if len(made) != len(now) or not all(map(same_spec, kinds, made, now)):
        raise UsageError(
            f"was calibrated for {' '.join(made)}, not for {' '.join(now)}",
            f"operating point '{point.name}'",
            "Run uadtk threshold with the same scorer and cleaners.",
        )
