"""What every model keeps to; ``uadtk.core.model`` says what a model is.

Models are built at the smallest side they admit, with their default options or, where these are slow, with what a class
names instead: ``quick = {"steps": 10}``. They are trained for a few steps on made-up slices: the list takes seconds.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from uadtk import checkpoint as checkpoints
from uadtk import registry
from uadtk.core import options as opts
from uadtk.core.errors import UsageError
from uadtk.core.model import Batch, capabilities, default_scorer
from uadtk.core.preparation import Preparation
from uadtk.networks.seeded import seeded
from uadtk.testing.contract import NotApplicable, generators_untouched, require, require_options
from uadtk.testing.specimens import healthy_slices, planted
from uadtk.training.optimisers import judged_from, learns_labels, make_optimisers, take_turns, turns_of
from uadtk.training.train import RESERVED, Schedule

SIDES = (64, 128)
SLICES = 6
STEPS, LEARNING_RATE = 20, 5e-4
FALL = 0.95  # the loss after training, at most this share of the loss before


class Subject:
    """A model under test. What costs time is made once and shared by the checks."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cls: Any = registry.load("models", name)

    @cached_property
    def side(self) -> int:
        for side in SIDES[:-1]:
            try:
                self.new(side)
            except UsageError:
                continue
            return side
        return SIDES[-1]

    @cached_property
    def options(self) -> Any:
        return opts.build(self.cls.Options, getattr(self.cls, "quick", {}), self.name)

    def new(self, side: int) -> Any:
        with seeded(0):
            model: nn.Module = self.cls(self.options, side)
        return model.eval()

    @cached_property
    def fresh(self) -> Any:
        return self.new(self.side).requires_grad_(False)

    @cached_property
    def healthy(self) -> Batch:
        return healthy_slices(SLICES, self.side)

    @cached_property
    def lessons(self) -> Batch:
        """What it learns from: healthy slices or, if it learns from labels, slices with a labelled lesion each."""
        if not learns_labels(self.cls):
            return self.healthy
        image, lesion = planted(self.healthy)
        channels = 1 + 2 * getattr(self.fresh, "neighbours", 0)
        return replace(self.healthy, image=image.repeat(1, channels, 1, 1), lesion=lesion, known=lesion | True)

    @cached_property
    def trained(self) -> Any:
        """After ``STEPS`` steps on its lessons in each stage of training; fresh if there is nothing to train."""
        model = self.new(self.side).train()
        optimisers = make_optimisers(model, LEARNING_RATE)
        with seeded(1), torch.inference_mode(False), torch.enable_grad():
            for epoch in self.stages(model) if optimisers else []:
                for _ in range(STEPS):
                    take_turns(turns_of(model, epoch), optimisers, [self.lessons])
        model.eval().requires_grad_(False)
        if hasattr(model, "conclude"):
            with torch.no_grad():
                model.conclude([self.lessons])
        return model

    def stages(self, model: Any) -> list[int]:
        """The first epoch, and the first that is judged: where the two differ, a model trains in two stages."""
        judged = judged_from(model)
        return [1, int(judged)] if 1 < judged < math.inf else [1]

    def has(self, method: str) -> bool:
        return method in capabilities(self.cls)

    def needs(self, method: str) -> None:
        if not self.has(method):
            raise NotApplicable(f"it has no {method}")

    def outputs(self, model: Any, x: Tensor, brain: Tensor) -> Tensor:
        """What the model says of slices: its reconstruction, else its score."""
        with torch.inference_mode():
            out: Tensor = model.reconstruct(x) if self.has("reconstruct") else model.score(x, brain)
        return out

    def loss(self, model: Any, batch: Batch) -> dict[str, Tensor]:
        with seeded(2):
            losses: dict[str, Tensor] = model.training_loss(batch)
        return losses


def options_have_help_and_valid_defaults(subject: Subject) -> None:
    """Options are a frozen dataclass; each has help, and a default that is a valid value."""
    require_options(subject.cls, subject.name)


def options_do_not_clash_with_training(subject: Subject) -> None:
    """No option is called like one of the training's, which share a command line."""
    taken = {*RESERVED, *(f.name for f in opts.fields(Schedule))}
    clash = taken & {f.name for f in opts.fields(subject.cls.Options)}
    require(not clash, f"training has {', '.join(sorted(clash))} too")


def can_be_scored(subject: Subject) -> None:
    """It has the methods that its default scorer calls."""
    scorer = registry.load("scorers", default_scorer(subject.cls))
    missing = set(scorer.needs) - capabilities(subject.cls)
    require(not missing, f"scorer '{default_scorer(subject.cls)}' needs {', '.join(sorted(missing))}")


def learns_if_it_says_so(subject: Subject) -> None:
    """It has parameters to learn exactly if it has a training_loss."""
    learns = any(p.requires_grad for p in subject.new(subject.side).parameters())
    require(learns == subject.has("training_loss"), f"parameters: {learns}, training_loss: {not learns}")


def seed_decides_the_weights(subject: Subject) -> None:
    """Built twice under one seed it has the same weights, and no generator but torch's is drawn from."""
    with generators_untouched():
        one, two = (checkpoints.pack(subject.new(subject.side)) for _ in range(2))
    require(one == two, "the weights differ")


def keeps_shape_and_is_finite(subject: Subject) -> None:
    """What it returns is float32, finite and shaped like its input, for one slice, for many and for an empty one."""
    image, brain = subject.healthy.image, subject.healthy.brain
    for x, inside in ((image, brain), (image[:1], brain[:1]), (image[:1] * 0, brain[:1] & False)):
        out = subject.outputs(subject.fresh, x, inside)
        require(out.shape == x.shape, f"shape {tuple(x.shape)} became {tuple(out.shape)}")
        require(out.dtype == torch.float32, f"dtype is {out.dtype}")
        require(bool(out.isfinite().all()), "not finite" if x.any() else "not finite for an empty slice")


def deterministic_in_eval(subject: Subject) -> None:
    """In eval mode the same slices give the same result twice, and no global generator is drawn from."""
    batch = subject.healthy
    with generators_untouched():
        one, two = (subject.outputs(subject.fresh, batch.image, batch.brain) for _ in range(2))
    require(torch.equal(one, two), f"results differ by {(one - two).abs().max():.2g}")


def input_is_not_modified(subject: Subject) -> None:
    """It leaves the slices it was given as they were."""
    shown, batch = (_copy(given) for given in (subject.healthy, subject.lessons))
    subject.outputs(subject.fresh, shown.image, shown.brain)
    if subject.has("training_loss"):
        subject.loss(subject.new(subject.side).train(), batch)
    for one, given in ((shown, subject.healthy), (batch, subject.lessons)):
        for name in vars(given):
            require(torch.equal(getattr(one, name), getattr(given, name)), f"it changes {name}")


def batch_equals_one_by_one(subject: Subject) -> None:
    """A slice's result does not depend on the slices it comes with (to 1e-5 of the largest value, or of 1)."""
    if not subject.has("reconstruct"):
        raise NotApplicable("its score sees all slices of a scan at once")
    image, brain = subject.healthy.image, subject.healthy.brain
    together = subject.outputs(subject.fresh, image, brain)
    alone = torch.cat([subject.outputs(subject.fresh, image[k : k + 1], brain[k : k + 1]) for k in range(len(image))])
    require(_close(together, alone), f"differs by {(together - alone).abs().max():.2g}")


def own_score_is_a_score(subject: Subject) -> None:
    """Its score is at least 0, and 0 outside the brain."""
    subject.needs("score")
    image, brain = subject.healthy.image, subject.healthy.brain
    with torch.inference_mode():
        score = subject.fresh.score(image, brain)
    require(bool((score >= 0).all()), f"lowest is {score.min():.3g}")
    require(not score[~brain].any(), "not 0 outside the brain")


def samples_are_reconstructions(subject: Subject) -> None:
    """sample(x, n) gives n finite reconstructions that are not all the same, and the same again under the same seed."""
    subject.needs("sample")
    x = subject.healthy.image
    with torch.inference_mode(), generators_untouched():
        drawn = []
        for _ in range(2):
            with seeded(0):
                drawn.append(subject.fresh.sample(x, 3))
    require(drawn[0].shape == (3, *x.shape), f"shape is {tuple(drawn[0].shape)}")
    require(bool(drawn[0].isfinite().all()), "not finite")
    require(not torch.equal(drawn[0][0], drawn[0][1]), "all samples are equal")
    require(torch.equal(drawn[0], drawn[1]), "the seed does not decide the samples")


def objective_has_a_gradient(subject: Subject) -> None:
    """objective(x) is one finite number per slice, with a finite gradient in x that is not 0."""
    subject.needs("objective")
    x = subject.healthy.image.clone().requires_grad_()
    value = subject.fresh.objective(x)
    require(value.shape == (len(x),), f"shape is {tuple(value.shape)}")
    (gradient,) = torch.autograd.grad(value.sum(), x)
    require(bool(value.isfinite().all() and gradient.isfinite().all()), "not finite")
    require(bool(gradient.any()), "the gradient is 0 everywhere")


def loss_is_finite_with_a_gradient(subject: Subject) -> None:
    """Losses are finite scalars, and each player's "loss" has a finite gradient in all that it learns."""
    subject.needs("training_loss")
    model = subject.new(subject.side).train()
    _require_finite(subject.loss(model, subject.lessons))
    names = {parameter: name for name, parameter in model.named_parameters() if parameter.requires_grad}
    own = {name: optimiser.param_groups[0]["params"] for name, optimiser in make_optimisers(model, 1.0).items()}
    nobodys = set(names) - {parameter for player in own.values() for parameter in player}
    require(not nobodys, f"no player has {', '.join(sorted(names[p] for p in nobodys))}")
    reached = set()
    for epoch in subject.stages(model):
        for turn in turns_of(model, epoch):
            with seeded(2):
                losses = turn.loss(subject.lessons)
            _require_finite(losses)
            gradients = torch.autograd.grad(losses["loss"], own[turn.player], allow_unused=True)
            for parameter, gradient in zip(own[turn.player], gradients, strict=True):
                require(gradient is not None, f"no gradient in {names[parameter]}")
                require(bool(gradient.isfinite().all()), f"the gradient in {names[parameter]} is not finite")
                reached.add(parameter)
    require(reached == set(names), f"no turn moves {', '.join(sorted(names[p] for p in set(names) - reached))}")


def _require_finite(losses: dict[str, Tensor]) -> None:
    require("loss" in losses, f"there is no 'loss' among {', '.join(losses)}")
    for name, value in losses.items():
        require(value.ndim == 0 and bool(value.isfinite()), f"'{name}' is not a finite scalar")


def loss_is_decided_by_the_seed(subject: Subject) -> None:
    """Under the same seed training_loss is the same again, and no generator but torch's is drawn from."""
    subject.needs("training_loss")
    model = subject.new(subject.side).train()
    with generators_untouched():
        one, two = (float(subject.loss(model, subject.lessons)["loss"].detach()) for _ in range(2))
    require(one == two, f"{one:.9g}, then {two:.9g}")


def known_lesions_are_not_learned(subject: Subject) -> None:
    """Lesions marked as not normal cost less than lesions that are not marked."""
    subject.needs("training_loss")
    if learns_labels(subject.cls):
        raise NotApplicable("it learns from lesions")
    image, lesion = planted(subject.healthy)
    model = subject.new(subject.side)
    unmarked, marked = (replace(subject.healthy, image=image, normal=normal) for normal in (lesion | True, ~lesion))
    with torch.no_grad():
        losses = [float(subject.loss(model, batch)["loss"]) for batch in (marked, unmarked)]
    require(losses[0] < losses[1], f"{losses[0]:.6g} with the lesions marked, {losses[1]:.6g} without")


def unknown_labels_are_not_learned(subject: Subject) -> None:
    """To a model that learns from labels it is all the same what is marked where the label is not known."""
    if not learns_labels(subject.cls):
        raise NotApplicable("it does not learn from labels")
    subject.needs("training_loss")
    lessons, model = subject.lessons, subject.new(subject.side)
    with torch.no_grad():
        unmarked = replace(lessons, lesion=~lessons.known)
        marked, bare = (replace(batch, known=~lessons.lesion) for batch in (lessons, unmarked))
        losses = [float(subject.loss(model, batch)["loss"]) for batch in (marked, bare, lessons, unmarked)]
    require(losses[0] == losses[1], f"{losses[0]:.6g} became {losses[1]:.6g}")
    require(losses[2] != losses[3], "known labels are not learned either")


def loss_falls(subject: Subject) -> None:
    """A few steps of training on one batch lower the loss."""
    subject.needs("training_loss")
    with torch.no_grad():
        before, after = (float(subject.loss(m, subject.lessons)["loss"]) for m in (subject.fresh, subject.trained))
    require(after < FALL * before, f"{before:.6g} became {after:.6g} in {STEPS} steps")


def planted_lesion_outscores_the_brain(subject: Subject) -> None:
    """After a few steps of training, bright lesions score higher with the default scorer than the brain around them."""
    image, lesion = planted(subject.healthy)
    cls = registry.load("scorers", default_scorer(subject.cls))
    scorer = cls(cls.Options())
    with torch.inference_mode(not getattr(scorer, "needs_gradient", False)):
        score = scorer.score(subject.trained, image, subject.healthy.brain).score
    inside, around = float(score[lesion].mean()), float(score[subject.healthy.brain & ~lesion].mean())
    require(inside > 1.5 * around, f"mean score {inside:.4g} in lesions, {around:.4g} around")


def checkpoint_keeps_every_bit(subject: Subject) -> None:
    """Saved and loaded, its weights and its results are the same to the last bit."""
    checkpoint = checkpoints.new(subject.name, opts.as_dict(subject.options), Preparation())
    side = checkpoint.preparation.pixels
    checkpoint = replace(checkpoint, weights=checkpoints.pack(subject.new(side)))
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"model{checkpoints.SUFFIX}"
        checkpoint.save(path)
        loaded = checkpoints.load(path)
    require(loaded.digest == checkpoint.digest, "the digest differs")
    batch = healthy_slices(2, side)
    one, two = (subject.outputs(c.build(), batch.image, batch.brain) for c in (checkpoint, loaded))
    require(torch.equal(one, two), f"results differ by {(one - two).abs().max():.2g}")
    with seeded(7):
        other = loaded.new_model().eval()
    other.load_state_dict(subject.new(side).state_dict())
    rebuilt = subject.outputs(other, batch.image, batch.brain)
    require(_close(one, rebuilt), "some of what it learned is not in its state_dict")


def _close(one: Tensor, two: Tensor) -> bool:
    return torch.allclose(one, two, rtol=0, atol=1e-5 * max(1.0, float(one.abs().max())))


def _copy(batch: Batch) -> Batch:
    return batch.each(torch.clone)
