"""What every scorer keeps to; ``uadtk.core.scorer`` says what a scorer is.

Scorers score made-up slices with bright discs in them, by a model that knows what is normal and has only the methods
the scorer says it needs.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from uadtk import registry
from uadtk.core.model import CAPABILITIES, Batch
from uadtk.core.scorer import Scored
from uadtk.testing.contract import NotApplicable, generators_untouched, require, require_options
from uadtk.testing.specimens import IdealModel, healthy_slices, planted

SIDE, SLICES = 64, 4


class Subject:
    """A scorer under test, with default options."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cls: Any = registry.load("scorers", name)

    @cached_property
    def healthy(self) -> Batch:
        return healthy_slices(SLICES, SIDE)

    def score(self, x: Tensor, brain: Tensor, methods: tuple[str, ...] | None = None) -> Scored:
        model = IdealModel(self.cls.needs if methods is None else methods).eval()
        scorer = self.cls(self.cls.Options())
        with torch.inference_mode(not getattr(self.cls, "needs_gradient", False)):
            scored: Scored = scorer.score(model, x, brain)
        return scored


def options_have_help_and_valid_defaults(subject: Subject) -> None:
    """Options are a frozen dataclass; each has help, and a default that is a valid value."""
    require_options(subject.cls, subject.name)


def names_what_it_needs(subject: Subject) -> None:
    """It calls only the methods of the model that its ``needs`` names, and cannot do without them."""
    unknown = set(subject.cls.needs) - set(CAPABILITIES)
    require(not unknown, f"no model has {', '.join(sorted(unknown))}")
    image, brain = subject.healthy.image, subject.healthy.brain
    try:
        subject.score(image, brain)
    except AttributeError as error:
        raise AssertionError(f"it calls what it does not name ({error})") from None
    for spared in subject.cls.needs:
        try:
            subject.score(image, brain, tuple(n for n in subject.cls.needs if n != spared))
        except AttributeError:
            continue
        raise AssertionError(f"it names {spared} and does without it")


def score_is_a_score(subject: Subject) -> None:
    """The score is float32, finite, at least 0, and shaped like the slices, also for an empty slice."""
    image, brain = planted(subject.healthy)[0], subject.healthy.brain
    for x, inside in ((image, brain), (image[:1] * 0, brain[:1] & False)):
        score = subject.score(x, inside).score
        require(score.shape == x.shape, f"shape {tuple(x.shape)} became {tuple(score.shape)}")
        require(score.dtype == torch.float32, f"dtype is {score.dtype}")
        require(bool(score.isfinite().all()), "not finite")
        require(bool((score >= 0).all()), f"lowest is {score.min():.3g}")


def score_is_zero_outside_the_brain(subject: Subject) -> None:
    """Outside the brain the score is 0, whatever the model says there."""
    image, brain = planted(subject.healthy)[0], subject.healthy.brain
    score = subject.score(image, brain).score
    require(not score[~brain].any(), f"highest is {score[~brain].max():.3g}")


def maps_fit_the_slices(subject: Subject) -> None:
    """Further maps are finite and shaped like the slices, and the same ones come with every batch."""
    image, brain = subject.healthy.image, subject.healthy.brain
    maps = subject.score(image, brain).maps
    for name, values in maps.items():
        require(values.shape == image.shape, f"'{name}' has shape {tuple(values.shape)}")
        require(bool(values.isfinite().all()), f"'{name}' is not finite")
    few = subject.score(image[:1], brain[:1]).maps
    require(list(maps) == list(few), f"{list(maps)}, then {list(few)}")


def input_is_not_modified(subject: Subject) -> None:
    """It leaves slices and brain as they were."""
    image, brain = subject.healthy.image.clone(), subject.healthy.brain.clone()
    subject.score(image, brain)
    require(torch.equal(image, subject.healthy.image), "it changes the slices")
    require(torch.equal(brain, subject.healthy.brain), "it changes the brain")


def deterministic(subject: Subject) -> None:
    """The same slices give the same score twice, and no global generator is drawn from."""
    image, brain = planted(subject.healthy)[0], subject.healthy.brain
    with generators_untouched():
        one, two = (subject.score(image, brain).score for _ in range(2))
    require(torch.equal(one, two), f"scores differ by {(one - two).abs().max():.2g}")


def batch_equals_one_by_one(subject: Subject) -> None:
    """A slice's score does not depend on the slices it comes with (to 1e-5)."""
    if getattr(subject.cls, "whole_scan", False):
        raise NotApplicable("it sees all slices of a scan at once (whole_scan)")
    image, brain = planted(subject.healthy)[0], subject.healthy.brain
    together = subject.score(image, brain).score
    alone = torch.cat([subject.score(image[k : k + 1], brain[k : k + 1]).score for k in range(len(image))])
    require(torch.allclose(together, alone, rtol=0, atol=1e-5), f"differs by {(together - alone).abs().max():.2g}")


def planted_lesion_outscores_the_brain(subject: Subject) -> None:
    """Bright lesions score higher than the brain around them, when the model knows what is normal."""
    image, lesion = planted(subject.healthy)
    score = subject.score(image, subject.healthy.brain).score
    inside, around = float(score[lesion].mean()), float(score[subject.healthy.brain & ~lesion].mean())
    require(inside > 2 * around, f"mean score {inside:.4g} in lesions, {around:.4g} around")
