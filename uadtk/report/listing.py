"""The list of findings in the order a reader wants: the most suspicious first, small ones apart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from uadtk.core.finding import Finding, Segmentation
from uadtk.core.thresholder import OperatingPoint
from uadtk.report.place import places

SMALL_ML = 0.05
LISTED = 200  # findings in the page; all are in findings.tsv


@dataclass(frozen=True)
class Listed:
    rank: int
    finding: Finding
    place: str  # empty where the brain is not known


@dataclass(frozen=True)
class Listing:
    """``large`` and ``small`` findings by descending peak; ranks run through all of them. ``left_out``: not listed."""

    large: list[Listed]
    small: list[Listed]
    left_out: int

    @property
    def all(self) -> list[Listed]:
        return [*self.large, *self.small]


def listing(segmentation: Segmentation) -> Listing:
    """Ranked by peak. Of more than ``LISTED``, large ones are listed first, then small ones."""
    ranked = by_peak(segmentation.findings)
    ranks = {finding.label: rank for rank, finding in enumerate(ranked, 1)}
    large = [finding for finding in ranked if finding.volume_ml >= SMALL_ML]
    small = [finding for finding in ranked if finding.volume_ml < SMALL_ML]
    chosen = [*large, *small][:LISTED]
    words = places(segmentation.scoring.brain, [finding.peak_mm for finding in chosen], segmentation.gate.average)
    listed = [Listed(ranks[finding.label], finding, str(words[i]) if words else "") for i, finding in enumerate(chosen)]
    count = min(len(large), LISTED)
    return Listing(listed[:count], listed[count:], len(ranked) - len(chosen))


def by_peak(findings: Iterable[Finding]) -> list[Finding]:
    """The highest first."""
    return sorted(findings, key=lambda finding: (-finding.peak, finding.label))


def healthy_count(point: OperatingPoint) -> str:
    """How many findings the calibration scans show where they are free of lesions; empty if that was not measured."""
    if not point.lesion_free:
        return ""
    share = point.measured.get("brain_counted", 1.0)
    if share > 0.99:
        return f"healthy scans show {point.lesion_free}"
    whole = point.measured["findings_median"] / share
    return (
        f"for comparison, the lesion-free {share:.0%} of the calibration brains shows {point.lesion_free}; "
        f"at that rate, a whole brain has {whole:.1f}"
    )
