"""What every cleaner keeps to; ``uadtk.core.cleaner`` says what a cleaner is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk import registry
from uadtk.testing.contract import generators_untouched, require, require_options
from uadtk.testing.specimens import Stack, score_stack

SPACINGS = ((1.6, 1.6, 1.6), (5.0, 0.8, 0.8))


class Subject:
    """A cleaner under test, with default options."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cls: Any = registry.load("cleaners", name)

    def clean(self, stack: Stack, spacing_mm: tuple[float, float, float] = SPACINGS[0]) -> NDArray[np.float32]:
        cleaner = self.cls(self.cls.Options())
        cleaned: NDArray[np.float32] = cleaner.clean(stack.score, stack.image, stack.brain, spacing_mm)
        return cleaned


def options_have_help_and_valid_defaults(subject: Subject) -> None:
    """Options are a frozen dataclass; each has help, and a default that is a valid value."""
    require_options(subject.cls, subject.name)


def score_stays_a_score(subject: Subject) -> None:
    """Scores stay float32, finite, at least 0 and shaped as they were, for isotropic, thick and single slices."""
    stack = score_stack()
    middle = len(stack.score) // 2
    for part in (stack, _each(stack, lambda array: array[middle : middle + 1])):
        for spacing in SPACINGS:
            cleaned = subject.clean(part, spacing)
            require(cleaned.shape == part.score.shape, f"shape {part.score.shape} became {cleaned.shape}")
            require(cleaned.dtype == np.float32, f"dtype is {cleaned.dtype}")
            require(bool(np.isfinite(cleaned).all()), "not finite")
            require(bool((cleaned >= 0).all()), f"lowest is {cleaned.min():.3g}")


def input_is_not_modified(subject: Subject) -> None:
    """It leaves score, image and brain as they were; read-only ones will do."""
    given = _each(score_stack(), np.copy)
    subject.clean(given)
    for name, array in vars(score_stack()).items():
        require(np.array_equal(getattr(given, name), array), f"it changes {name}")
    for array in vars(given).values():
        array.flags.writeable = False
    try:
        subject.clean(given)
    except ValueError as error:
        raise AssertionError(f"read-only arrays are refused ({error})") from None


def nothing_comes_from_nothing(subject: Subject) -> None:
    """Where all scores are 0 they stay 0."""
    stack = score_stack()
    require(not subject.clean(replace(stack, score=stack.score * 0)).any(), "there are scores now")


def nothing_rises_above_the_highest(subject: Subject) -> None:
    """No voxel scores higher than the highest did before."""
    highest, cleaned = score_stack().score.max(), subject.clean(score_stack())
    require(bool(cleaned.max() <= highest * (1 + 1e-6)), f"{highest:.4g} became {cleaned.max():.4g}")


def something_remains(subject: Subject) -> None:
    """A bright lesion in the middle of the brain keeps half of its score at least."""
    highest = subject.clean(score_stack())[score_stack().lesion].max()
    require(bool(highest >= 0.5), f"1 became {highest:.3g}")


def an_empty_brain_is_no_error(subject: Subject) -> None:
    """Without a brain nothing scores."""
    require(not subject.clean(_each(score_stack(), np.zeros_like)).any(), "there are scores")


def deterministic(subject: Subject) -> None:
    """The same scores give the same result twice, and no global generator is drawn from."""
    with generators_untouched():
        one, two = (subject.clean(score_stack()) for _ in range(2))
    require(np.array_equal(one, two), "results differ")


def _each(stack: Stack, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Stack:
    return Stack(**{name: change(array) for name, array in vars(stack).items()})
