"""Scores, findings and masks of one scan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from uadtk.core.thresholder import OperatingPoint
from uadtk.core.volume import Affine, Mask, Scan, ScoreMap, Volume


@dataclass(frozen=True)
class Finding:
    """One lesion candidate. ``label`` is its value in the components image; 1 is the largest."""

    label: int
    volume_ml: float
    centroid_mm: tuple[float, float, float]  # RAS+ of the scan
    peak: float
    mean: float
    peak_mm: tuple[float, float, float]  # the voxel with the highest score
    lobe: str = ""  # of that voxel, such as "left frontal"; empty where it is not known


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


Light = Literal["green", "amber", "red"]
LIGHTS: tuple[Light, ...] = ("green", "amber", "red")  # the better first


@dataclass(frozen=True)
class Reason:
    """Why a scan may not be one that the checkpoint can read: one check, what was measured, and its limit."""

    light: Light  # amber or red
    check: str  # name, tags, values, contrast, brain, coverage, resolution, noise, ghosts, bias, training, mask
    what: str  # for people
    measured: float | str
    limit: str


@dataclass(frozen=True)
class Gate:
    """Is this a scan that the checkpoint can read? ``measured``: every number that was looked at, by name.

    ``average``: from RAS+ mm of the scan to those of the average brain, whose origin is its centre; None if the two do
    not agree well enough to name lobes.
    """

    reasons: tuple[Reason, ...] = ()
    measured: Mapping[str, float] = field(default_factory=dict)
    average: Affine | None = field(default=None, compare=False)

    @property
    def light(self) -> Light:
        """That of the worst reason; green without any."""
        return max((reason.light for reason in self.reasons), key=LIGHTS.index, default="green")

    def one_line(self) -> str:
        """The reasons, the gravest first."""
        ordered = sorted(self.reasons, key=lambda reason: -LIGHTS.index(reason.light))
        return "; ".join(reason.what for reason in ordered)

    def having(self, *reasons: Reason) -> Gate:
        return Gate((*self.reasons, *reasons), self.measured, self.average)

    def to_json(self) -> dict[str, Any]:
        reasons = [asdict(reason) for reason in self.reasons]
        average = {} if self.average is None else {"average": self.average.tolist()}
        return {"light": self.light, "reasons": reasons, "measured": dict(self.measured), **average}


@dataclass(frozen=True)
class Segmentation:
    """Mask, components and findings of one scan at one operating point."""

    scoring: Scoring
    point: OperatingPoint
    mask: Mask
    components: Volume  # int32, 0 background
    findings: tuple[Finding, ...]
    provenance: dict[str, Any] = field(default_factory=dict)
    gate: Gate = field(default_factory=Gate)
    min_voxels: int = 1  # smaller components are not findings

    @property
    def total_ml(self) -> float:
        """The volume of all findings."""
        return sum(finding.volume_ml for finding in self.findings)
