"""Checks that every cleaner must pass; ``uadtk.core.cleaner`` is the contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk import registry
from uadtk.testing.contract import (
    HOW_OPTIONS,
    Failed,
    generators_untouched,
    require,
    require_options,
    require_type,
    required,
)
from uadtk.testing.specimens import Stack, score_stack

SPACINGS = ((1.6, 1.6, 1.6), (5.0, 0.8, 0.8))
HOW = "def clean(self, score, image, brain, spacing_mm)"
LEFT = 0.5  # minimum fraction of a lesion's score that remains


class Subject:
    """A cleaner under test, with default options."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cls: Any = registry.load("cleaners", name)
        self.exempt: Mapping[str, str] = getattr(self.cls, "exempt", {})

    @cached_property
    def instance(self) -> Any:
        return self.cls(required(self.cls, "Options", HOW_OPTIONS)())

    def clean(self, stack: Stack, spacing_mm: tuple[float, float, float] = SPACINGS[0]) -> NDArray[np.float32]:
        clean = required(self.instance, "clean", HOW)
        cleaned: NDArray[np.float32] = clean(stack.score, stack.image, stack.brain, spacing_mm)
        require_type(cleaned, np.ndarray, "clean")
        return cleaned


def options_have_help_and_valid_defaults(subject: Subject) -> None:
    """Options are a frozen dataclass; each has help, and a default that is a valid value."""
    require_options(subject.cls, subject.name)


def score_stays_a_score(subject: Subject) -> None:
    """Scores stay float32, finite, at least 0 and of the same shape, for isotropic, thick and single slices."""
    stack = score_stack()
    middle = len(stack.score) // 2
    for part in (stack, _each(stack, lambda array: array[middle : middle + 1])):
        for spacing in SPACINGS:
            cleaned, at = subject.clean(part, spacing), f"for a score of shape {part.score.shape} at {spacing} mm"
            require(
                cleaned.shape == part.score.shape, f"clean returned shape {cleaned.shape} {at}; the same is required"
            )
            require(cleaned.dtype == np.float32, f"clean returned {cleaned.dtype} {at}; float32 is required")
            wrong = int(np.count_nonzero(~np.isfinite(cleaned)))
            require(wrong == 0, f"clean returned {wrong} values that are not finite {at}; 0 allowed")
            require(bool((cleaned >= 0).all()), f"the lowest score is {cleaned.min():.3g} {at}; at least 0 is required")


def input_is_not_modified(subject: Subject) -> None:
    """Score, image and brain are left unchanged, and may be read-only."""
    given = _each(score_stack(), np.copy)
    subject.clean(given)
    for name, array in vars(score_stack()).items():
        changed = int(np.count_nonzero(getattr(given, name) != array))
        require(changed == 0, f"clean changed {changed} voxels of its input '{name}' in place, 0 allowed: copy it")
    for array in vars(given).values():
        array.flags.writeable = False
    try:
        subject.clean(given)
    except ValueError as error:
        raise Failed(f"read-only input raised ValueError ({error}), and must be accepted: copy it to write") from None


def nothing_comes_from_nothing(subject: Subject) -> None:
    """Where all scores are 0 they stay 0."""
    stack = score_stack()
    highest = subject.clean(replace(stack, score=stack.score * 0)).max()
    require(highest == 0, f"scores that are all 0 became up to {highest:.3g}; 0 is required")


def nothing_rises_above_the_highest(subject: Subject) -> None:
    """No voxel scores higher than the highest did before."""
    highest, cleaned = score_stack().score.max(), subject.clean(score_stack())
    require(
        bool(cleaned.max() <= highest * (1 + 1e-6)),
        f"the highest score rose from {highest:.4g} to {cleaned.max():.4g}, and must not rise",
    )


def something_remains(subject: Subject) -> None:
    """A bright lesion in the middle of the brain keeps at least half of its score."""
    highest = subject.clean(score_stack())[score_stack().lesion].max()
    require(
        bool(highest >= LEFT),
        f"a bright lesion keeps {100 * highest:.3g} % of its score, at least {100 * LEFT:g} % required: "
        "clean less by default",
    )


def an_empty_brain_is_no_error(subject: Subject) -> None:
    """Without a brain all scores are 0."""
    highest = subject.clean(_each(score_stack(), np.zeros_like)).max()
    require(highest == 0, f"without a brain scores reach {highest:.3g}; 0 is required")


def deterministic(subject: Subject) -> None:
    """The same scores give the same result twice, and no global generator is drawn from."""
    with generators_untouched():
        one, two = (subject.clean(score_stack()) for _ in range(2))
    apart = float(np.abs(one - two).max())
    require(np.array_equal(one, two), f"two results differ by up to {apart:.2g}, and must be equal to the last bit")


def _each(stack: Stack, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Stack:
    return Stack(**{name: change(array) for name, array in vars(stack).items()})
