"""What every cleaner keeps to; ``uadtk.core.cleaner`` says what a cleaner is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadtk import registry
from uadtk.testing.contract import generators_untouched, require, require_options
from uadtk.testing.specimens import score_volume

SPACINGS = ((1.6, 1.6, 1.6), (5.0, 0.8, 0.8))


class Subject:
    """A cleaner under test, with default options."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cls: Any = registry.load("cleaners", name)

    def clean(
        self,
        score: NDArray[np.float32],
        brain: NDArray[np.bool_],
        spacing_mm: tuple[float, float, float] = SPACINGS[0],
    ) -> NDArray[np.float32]:
        cleaned: NDArray[np.float32] = self.cls(self.cls.Options()).clean(score, brain, spacing_mm)
        return cleaned


def options_have_help_and_valid_defaults(subject: Subject) -> None:
    """Options are a frozen dataclass; each has help, and a default that is a valid value."""
    require_options(subject.cls, subject.name)


def score_stays_a_score(subject: Subject) -> None:
    """Scores stay float32, finite, at least 0 and shaped as they were, for isotropic, thick and single slices."""
    score, brain = score_volume()
    middle = slice(len(score) // 2, len(score) // 2 + 1)
    for spacing in SPACINGS:
        for part in (slice(None), middle):
            cleaned = subject.clean(score[part], brain[part], spacing)
            require(cleaned.shape == score[part].shape, f"shape {score[part].shape} became {cleaned.shape}")
            require(cleaned.dtype == np.float32, f"dtype is {cleaned.dtype}")
            require(bool(np.isfinite(cleaned).all()), "not finite")
            require(bool((cleaned >= 0).all()), f"lowest is {cleaned.min():.3g}")


def input_is_not_modified(subject: Subject) -> None:
    """It leaves score and brain as they were; read-only ones will do."""
    score, brain = score_volume()
    given = score.copy(), brain.copy()
    for array in given:
        array.flags.writeable = False
    try:
        subject.clean(*given)
    except ValueError as error:
        raise AssertionError(f"read-only arrays are refused ({error})") from None
    given[0].flags.writeable = given[1].flags.writeable = True
    subject.clean(*given)
    require(np.array_equal(given[0], score) and np.array_equal(given[1], brain), "it changes what it was given")


def nothing_comes_from_nothing(subject: Subject) -> None:
    """Where all scores are 0 they stay 0."""
    score, brain = score_volume()
    require(not subject.clean(score * 0, brain).any(), "there are scores now")


def nothing_rises_above_the_highest(subject: Subject) -> None:
    """No voxel scores higher than the highest did before."""
    score, brain = score_volume()
    cleaned = subject.clean(score, brain)
    require(cleaned.max() <= score.max() * (1 + 1e-6), f"{score.max():.4g} became {cleaned.max():.4g}")


def something_remains(subject: Subject) -> None:
    """A bright lesion in the middle of the brain keeps a score."""
    score, brain = score_volume()
    require(subject.clean(score, brain)[score == 1].max() > 0.5, "nothing of it is left")


def deterministic(subject: Subject) -> None:
    """The same scores give the same result twice, and no global generator is drawn from."""
    score, brain = score_volume()
    with generators_untouched():
        one, two = (subject.clean(score, brain) for _ in range(2))
    require(np.array_equal(one, two), "results differ")
