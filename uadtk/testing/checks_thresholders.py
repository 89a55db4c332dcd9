"""What every thresholder keeps to; ``uadtk.core.thresholder`` says what a thresholder is."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from uadtk import registry
from uadtk.core.errors import UsageError
from uadtk.core.thresholder import CalibrationScan, Choice
from uadtk.testing.contract import NotApplicable, generators_untouched, require, require_options
from uadtk.testing.specimens import calibration_scans


class Subject:
    """A thresholder under test, with default options."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cls: Any = registry.load("thresholders", name)

    def scans(self, factor: float = 1.0) -> list[CalibrationScan]:
        """Thirty subjects, for thresholders that promise something need many: the specimens at ten brightnesses."""
        specimens = calibration_scans(factor, lesions=self.cls.needs_lesions)
        return [
            replace(scan, subject=f"{scan.subject}-{k}", score=scan.score * np.float32(1 + k / 50))
            for k in range(10)
            for scan in specimens
        ]

    def choose(self, scans: Sequence[CalibrationScan]) -> Choice:
        choice: Choice = self.cls(self.cls.Options()).choose(scans)
        return choice


def options_have_help_and_valid_defaults(subject: Subject) -> None:
    """Options are a frozen dataclass; each has help, and a default that is a valid value."""
    require_options(subject.cls, subject.name)


def threshold_is_a_score(subject: Subject) -> None:
    """The threshold is finite and within the range of the scores; for a single scan too, or that is a UsageError."""
    scans = subject.scans()
    _require_a_score(subject.choose(scans), scans)
    try:
        choice = subject.choose(scans[:1])
    except UsageError:
        return
    _require_a_score(choice, scans[:1])


def _require_a_score(choice: Choice, scans: Sequence[CalibrationScan]) -> None:
    highest = max(float(scan.score.max()) for scan in scans)
    require(math.isfinite(choice.threshold), "not finite")
    require(0 <= choice.threshold <= highest, f"{choice.threshold:.4g}, scores go from 0 to {highest:.4g}")


def says_what_it_aimed_at(subject: Subject) -> None:
    """Target, measures and interval are there, finite, and can be written as JSON; the interval holds the threshold."""
    choice = subject.choose(subject.scans())
    require(bool(choice.target), "no target")
    require(all(math.isfinite(value) for value in choice.measured.values()), "a measure is not finite")
    if choice.interval is not None:
        low, high = choice.interval
        require(low <= choice.threshold <= high, f"{choice.threshold:.4g} is not in [{low:.4g}, {high:.4g}]")
    try:
        json.dumps(asdict(choice))
    except TypeError as error:
        raise AssertionError(str(error)) from None


def within_target(subject: Subject) -> None:
    """No measure ``x`` exceeds its ``x_limit``; ``voxel_fpr`` is the share of brain voxels above the threshold."""
    scans = subject.scans()
    choice = subject.choose(scans)
    for name, value in choice.measured.items():
        limit = choice.measured.get(f"{name}_limit", math.inf)
        require(value <= limit, f"{name} is {value:.4g}, its limit {limit:.4g}")
    if "voxel_fpr" in choice.measured:
        told = choice.measured["voxel_fpr"]
        above = np.concatenate([scan.score[scan.brain] > np.float32(choice.threshold) for scan in scans])
        require(math.isclose(told, above.mean(), abs_tol=1e-9), f"voxel_fpr is {above.mean():.6g}, not {told:.6g}")


def order_does_not_matter(subject: Subject) -> None:
    """The order of the scans changes nothing (to 1e-6)."""
    scans = subject.scans()
    one, two = subject.choose(scans).threshold, subject.choose(scans[::-1]).threshold
    require(math.isclose(one, two, rel_tol=1e-6), f"{one:.9g} and {two:.9g}")


def grows_with_the_scores(subject: Subject) -> None:
    """Twice the scores give twice the threshold (to 1e-5)."""
    one, two = subject.choose(subject.scans()).threshold, subject.choose(subject.scans(2.0)).threshold
    require(math.isclose(2 * one, two, rel_tol=1e-5), f"{one:.6g} became {two:.6g}")


def monotone(subject: Subject) -> None:
    """A healthy scan that scores higher everywhere never lowers the threshold."""
    if subject.cls.needs_lesions:
        raise NotApplicable("calibrates on labelled scans")
    scans = subject.scans()
    one = subject.choose(scans).threshold
    for k in range(0, len(scans), 7):
        louder = [*scans[:k], replace(scans[k], score=scans[k].score * np.float32(1.5)), *scans[k + 1 :]]
        two = subject.choose(louder).threshold
        require(two >= one * (1 - 1e-6), f"{one:.6g} became {two:.6g}")


def deterministic(subject: Subject) -> None:
    """The same scans give the same choice twice, and no global generator is drawn from."""
    scans = subject.scans()
    with generators_untouched():
        one, two = (subject.choose(scans) for _ in range(2))
    require(one == two, f"{one} and {two}")


def input_is_not_modified(subject: Subject) -> None:
    """It leaves the scans as they were."""
    scans = subject.scans()
    subject.choose(scans)
    for given, fresh in zip(scans, subject.scans(), strict=True):
        require(np.array_equal(given.score, fresh.score), "it changes the scores")
        require(np.array_equal(given.brain, fresh.brain), "it changes the brain")
