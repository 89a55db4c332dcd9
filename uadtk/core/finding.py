"""Scores, findings and masks of one scan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from uadtk.core.thresholder import OperatingPoint
from uadtk.core.volume import Mask, Scan, ScoreMap, Volume


@dataclass(frozen=True)
class Finding:
    """One lesion candidate. ``label`` is its value in the components image; 1 is the largest."""

    label: int
    volume_ml: float
    centroid_mm: tuple[float, float, float]  # RAS+ of the scan
    peak: float
    mean: float


@dataclass(frozen=True)
class Scoring:
    """The anomaly scores of a scan on its own grid, before thresholding.

    ``maps`` are further images of the scorer, such as ``reconstruction``, in the scan's intensity or the scorer's unit.
    ``decisions``: what preparation decided about this scan, for the provenance.
    """

    scan: Scan
    brain: Mask
    brain_source: str  # "given", "already skull-stripped" or "deepbet"
    score: ScoreMap
    maps: dict[str, Volume]
    decisions: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Segmentation:
    """Mask, components and findings of one scan at one operating point."""

    scoring: Scoring
    point: OperatingPoint
    mask: Mask
    components: Volume  # int32, 0 background
    findings: tuple[Finding, ...]
    provenance: dict[str, Any] = field(default_factory=dict)
