"""Checks that every thresholder must pass; ``uadtk.core.thresholder`` is the contract."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

import numpy as np

from uadtk import registry
from uadtk.core.errors import UsageError
from uadtk.core.thresholder import CalibrationScan, Choice
from uadtk.testing.contract import (
    HOW_OPTIONS,
    Failed,
    NotApplicable,
    generators_untouched,
    require,
    require_options,
    require_type,
    required,
)
from uadtk.testing.specimens import calibration_scans

HOW = "def choose(self, scans) -> Choice"
HOW_NEEDS_LESIONS = "needs_lesions = True to calibrate on labelled scans, False on healthy ones"
LOUDER = 1.5


class Subject:
    """A thresholder under test, with default options."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cls: Any = registry.load("thresholders", name)
        self.exempt: Mapping[str, str] = getattr(self.cls, "exempt", {})

    @cached_property
    def instance(self) -> Any:
        return self.cls(required(self.cls, "Options", HOW_OPTIONS)())

    @property
    def needs_lesions(self) -> bool:
        return bool(required(self.instance, "needs_lesions", HOW_NEEDS_LESIONS))

    def scans(self, factor: float = 1.0) -> list[CalibrationScan]:
        """Thirty subjects, as guarantees need many: the three specimens at ten intensities."""
        specimens = calibration_scans(factor, lesions=self.needs_lesions)
        return [
            replace(scan, subject=f"{scan.subject}-{k}", score=scan.score * np.float32(1 + k / 50))
            for k in range(10)
            for scan in specimens
        ]

    def choose(self, scans: Sequence[CalibrationScan]) -> Choice:
        choice: Choice = required(self.instance, "choose", HOW)(scans)
        require_type(choice, Choice, "choose")
        return choice


def options_have_help_and_valid_defaults(subject: Subject) -> None:
    """Options are a frozen dataclass; each has help, and a default that is a valid value."""
    require_options(subject.cls, subject.name)


def threshold_is_a_score(subject: Subject) -> None:
    """The threshold is finite and within the range of the scores; a single scan may be refused with a UsageError."""
    scans = subject.scans()
    _require_a_score(subject.choose(scans), scans)
    try:
        choice = subject.choose(scans[:1])
    except UsageError:
        return
    _require_a_score(choice, scans[:1])


def _require_a_score(choice: Choice, scans: Sequence[CalibrationScan]) -> None:
    highest = max(float(scan.score.max()) for scan in scans)
    require(
        0 <= choice.threshold <= highest,
        f"the threshold of {len(scans)} scans is {choice.threshold:.4g}; it must be finite and within the range of the "
        f"scores, 0 to {highest:.4g}",
    )


def says_what_it_aimed_at(subject: Subject) -> None:
    """Target, measures and interval are present, finite, and JSON values; the interval holds the threshold."""
    choice = subject.choose(subject.scans())
    require(bool(choice.target), "Choice.target is empty; a description of the target is required")
    for name, value in choice.measured.items():
        require(math.isfinite(value), f"measured['{name}'] is {value}; it must be finite")
    if choice.interval is not None:
        low, high = choice.interval
        require(
            low <= choice.threshold <= high,
            f"the threshold {choice.threshold:.4g} is outside its interval [{low:.4g}, {high:.4g}], and must be in it",
        )
    try:
        json.dumps(asdict(choice))
    except TypeError as error:
        raise Failed(f"Choice cannot be written as JSON ({error}); convert its values to float, int or str") from None


def within_target(subject: Subject) -> None:
    """No measure ``x`` exceeds its ``x_limit``; ``voxel_fpr`` is the share of brain voxels above the threshold."""
    scans = subject.scans()
    choice = subject.choose(scans)
    for name, value in choice.measured.items():
        limit = choice.measured.get(f"{name}_limit", math.inf)
        require(value <= limit, f"measured['{name}'] is {value:.4g}, at most {limit:.4g} ('{name}_limit') allowed")
    if "voxel_fpr" in choice.measured:
        reported = choice.measured["voxel_fpr"]
        above = np.concatenate([scan.score[scan.brain] > np.float32(choice.threshold) for scan in scans])
        require(
            math.isclose(reported, above.mean(), abs_tol=1e-9),
            f"measured['voxel_fpr'] is {reported:.6g}; {above.mean():.6g} of the brain voxels are above the threshold",
        )


def order_does_not_matter(subject: Subject) -> None:
    """The order of the scans changes nothing (to 1e-6)."""
    scans = subject.scans()
    one, two = subject.choose(scans).threshold, subject.choose(scans[::-1]).threshold
    require(
        math.isclose(one, two, rel_tol=1e-6),
        f"the threshold is {one:.9g}, and {two:.9g} with the scans in reverse; they must be equal to 1e-6",
    )


def grows_with_the_scores(subject: Subject) -> None:
    """Twice the scores give twice the threshold (to 1e-5)."""
    one, two = subject.choose(subject.scans()).threshold, subject.choose(subject.scans(2.0)).threshold
    require(
        math.isclose(2 * one, two, rel_tol=1e-5),
        f"the threshold is {one:.6g}, and {two:.6g} for twice the scores; {2 * one:.6g} is required, to 1e-5",
    )


def monotone(subject: Subject) -> None:
    """A healthy scan that scores higher everywhere never lowers the threshold."""
    if subject.needs_lesions:
        raise NotApplicable("it calibrates on labelled scans")
    scans = subject.scans()
    one = subject.choose(scans).threshold
    for k in range(0, len(scans), 7):
        louder = [*scans[:k], replace(scans[k], score=scans[k].score * np.float32(LOUDER)), *scans[k + 1 :]]
        two = subject.choose(louder).threshold
        require(
            two >= one * (1 - 1e-6),
            f"the threshold fell from {one:.6g} to {two:.6g} when one healthy scan scored {LOUDER:g} times higher, "
            "and must not fall",
        )


def deterministic(subject: Subject) -> None:
    """The same scans give the same choice twice, and no global generator is drawn from."""
    scans = subject.scans()
    with generators_untouched():
        one, two = (subject.choose(scans) for _ in range(2))
    differ = [name for name, value in vars(one).items() if value != vars(two)[name]]
    values = "; ".join(f"{name}: {vars(one)[name]} and {vars(two)[name]}" for name in differ)
    require(one == two, f"two choices from the same scans differ, and must be equal ({values})")


def input_is_not_modified(subject: Subject) -> None:
    """The scans are left unchanged."""
    scans = subject.scans()
    subject.choose(scans)
    for given, fresh in zip(scans, subject.scans(), strict=True):
        for name in ("score", "brain"):
            changed = int(np.count_nonzero(getattr(given, name) != getattr(fresh, name)))
            require(changed == 0, f"choose changed {changed} voxels of scan.{name} in place, 0 allowed: copy it")
