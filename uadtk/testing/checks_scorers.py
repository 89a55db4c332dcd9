"""Checks that every scorer must pass; ``uadtk.core.scorer`` is the contract.

Scorers score synthetic slices with bright discs, by a model that knows normal tissue and has only the methods that the
scorer declares in ``needs``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from uadtk import registry
from uadtk.core.errors import did_you_mean
from uadtk.core.model import CAPABILITIES, Batch
from uadtk.core.scorer import Scored, scorer_traits
from uadtk.testing.contract import (
    HOW_OPTIONS,
    Failed,
    NotApplicable,
    difference,
    generators_untouched,
    listed,
    require,
    require_equal,
    require_options,
    require_type,
    required,
)
from uadtk.testing.specimens import IdealModel, healthy_slices, planted

SIDE, SLICES = 64, 4
ALIKE = 1e-5  # maximum difference of scores of one slice
CONTRAST = 2.0  # minimum ratio of mean scores in planted lesions and in the brain around them
HOW = "def score(self, model, x, brain) -> Scored"


class Subject:
    """A scorer under test, with default options."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cls: Any = registry.load("scorers", name)
        self.exempt: Mapping[str, str] = getattr(self.cls, "exempt", {})

    @cached_property
    def instance(self) -> Any:
        return self.cls(required(self.cls, "Options", HOW_OPTIONS)())

    @property
    def needs(self) -> tuple[str, ...]:
        needs: tuple[str, ...] = required(
            self.instance, "needs", 'the methods of the model, as needs = ("reconstruct",)'
        )
        return needs

    @cached_property
    def healthy(self) -> Batch:
        return healthy_slices(SLICES, SIDE)

    def score(self, x: Tensor, brain: Tensor, methods: tuple[str, ...] | None = None) -> Scored:
        model = IdealModel(self.needs if methods is None else methods).eval()
        score = required(self.instance, "score", HOW)
        with torch.inference_mode(not scorer_traits(self.instance).needs_gradient):
            scored: Scored = score(model, x, brain)
        require_type(scored, Scored, "score")
        require_type(scored.score, Tensor, "score: Scored.score")
        shape, wanted = tuple(scored.score.shape), tuple(x.shape)
        require(shape == wanted, f"the score has shape {shape}; {wanted} is required")
        return scored


def options_have_help_and_valid_defaults(subject: Subject) -> None:
    """Options are a frozen dataclass; each has help, and a default that is a valid value."""
    require_options(subject.cls, subject.name)


def names_what_it_needs(subject: Subject) -> None:
    """``needs`` names exactly the methods of the model that it calls."""
    for unknown in sorted(set(subject.needs) - set(CAPABILITIES)):
        require(False, f"needs names '{unknown}', which no model has. {did_you_mean(unknown, CAPABILITIES)}")
    image, brain = subject.healthy.image, subject.healthy.brain
    names = listed(subject.needs) or "nothing"
    try:
        subject.score(image, brain)
    except AttributeError as error:
        raise Failed(
            f"it calls a method of the model that needs does not name ({error}); needs names {names}"
        ) from None
    for spared in subject.needs:
        try:
            subject.score(image, brain, tuple(n for n in subject.needs if n != spared))
        except AttributeError:
            continue
        raise Failed(f"needs names {spared}, and it scores a model without it: remove {spared} from needs")


def score_is_a_score(subject: Subject) -> None:
    """The score is float32, finite, at least 0, and of the shape of the slices, also for an empty slice."""
    image, brain = planted(subject.healthy)[0], subject.healthy.brain
    for x, inside in ((image, brain), (image[:1] * 0, brain[:1] & False)):
        score, of = subject.score(x, inside).score, "slices" if x.any() else "an empty slice (all 0)"
        require(score.dtype == torch.float32, f"the score is {score.dtype}; torch.float32 is required")
        wrong = int((~score.isfinite()).sum())
        require(wrong == 0, f"{wrong} scores are not finite for {of}; 0 allowed")
        require(bool((score >= 0).all()), f"the lowest score of {of} is {score.min():.3g}; at least 0 is required")


def score_is_zero_outside_the_brain(subject: Subject) -> None:
    """Outside the brain the score is 0, whatever the model returns there."""
    image, brain = planted(subject.healthy)[0], subject.healthy.brain
    highest = subject.score(image, brain).score[~brain].abs().max()
    require(bool(highest == 0), f"scores outside the brain reach {highest:.3g}; 0 is required: multiply by brain")


def maps_fit_the_slices(subject: Subject) -> None:
    """Further maps are finite and of the shape of the slices, and every batch has the same ones."""
    image, brain = subject.healthy.image, subject.healthy.brain
    maps = subject.score(image, brain).maps
    for name, values in maps.items():
        shape, wanted = tuple(values.shape), tuple(image.shape)
        require(shape == wanted, f"map '{name}' has shape {shape}; {wanted} is required")
        wrong = int((~values.isfinite()).sum())
        require(wrong == 0, f"map '{name}' has {wrong} values that are not finite; 0 allowed")
    few = subject.score(image[:1], brain[:1]).maps
    many, one = listed(maps) or "none", listed(few) or "none"
    require(list(maps) == list(few), f"maps are {many} for {len(image)} slices and {one} for 1; they must be the same")


def input_is_not_modified(subject: Subject) -> None:
    """Slices and brain are left unchanged."""
    image, brain = subject.healthy.image.clone(), subject.healthy.brain.clone()
    subject.score(image, brain)
    for name, one, given in (("x", image, subject.healthy.image), ("brain", brain, subject.healthy.brain)):
        changed = int((one != given).sum())
        require(changed == 0, f"score changed {changed} pixels of its input '{name}' in place, 0 allowed: clone it")


def deterministic(subject: Subject) -> None:
    """The same slices give the same score twice, and no global generator is drawn from."""
    image, brain = planted(subject.healthy)[0], subject.healthy.brain
    with generators_untouched():
        one, two = (subject.score(image, brain).score for _ in range(2))
    require_equal(one, two, "two scores of the same slices")


def batch_equals_one_by_one(subject: Subject) -> None:
    """A slice's score does not depend on the other slices of the batch (to 1e-5)."""
    if scorer_traits(subject.instance).whole_scan:
        raise NotApplicable("it receives all slices of a scan at once (whole_scan)")
    image, brain = planted(subject.healthy)[0], subject.healthy.brain
    together = subject.score(image, brain).score
    alone = torch.cat([subject.score(image[k : k + 1], brain[k : k + 1]).score for k in range(len(image))])
    close = together.shape == alone.shape and torch.allclose(together, alone, rtol=0, atol=ALIKE)
    require(
        close,
        f"scores in a batch of {len(image)} and one by one differ {difference(together, alone)}, at most {ALIKE:g} "
        "allowed: score each slice by itself, or declare whole_scan = True",
    )


def planted_lesion_outscores_the_brain(subject: Subject) -> None:
    """Bright lesions score higher than the brain around them, by a model that knows normal tissue."""
    image, lesion = planted(subject.healthy)
    score = subject.score(image, subject.healthy.brain).score
    inside, around = float(score[lesion].mean()), float(score[subject.healthy.brain & ~lesion].mean())
    require(
        inside > CONTRAST * around,
        f"the mean score is {inside:.4g} in bright lesions and {around:.4g} in the brain around them; "
        f"more than {CONTRAST:g} times that is required",
    )
