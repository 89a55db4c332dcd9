"""Checks that every model must pass; ``uadtk.core.model`` is the contract.

Models are built at the smallest side they accept, with their default options or, where these are slow, with those that
the class declares instead: ``quick = {"steps": 10}``. They are trained for a few steps on synthetic slices, so the list
takes seconds.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from uadtk import checkpoint as checkpoints
from uadtk.core import options as opts
from uadtk.core.model import CAPABILITIES, Batch
from uadtk.core.preparation import Preparation
from uadtk.core.scorer import scorer_traits
from uadtk.networks.seeded import seeded
from uadtk.testing.contract import (
    HOW_OPTIONS,
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
from uadtk.testing.model_subject import LEARNING_RATE, STEPS, Subject, checked_turns, require_shape
from uadtk.testing.specimens import healthy_slices, planted
from uadtk.training.optimisers import make_optimisers
from uadtk.training.train import RESERVED, schedule_options

FALL = 0.05  # minimum decrease of the loss in training, as a fraction
CONTRAST = 1.5  # minimum ratio of mean scores in planted lesions and in the brain around them
ALIKE = 1e-5  # maximum difference of results of one slice, relative to the largest value or to 1


def options_have_help_and_valid_defaults(subject: Subject) -> None:
    """Options are a frozen dataclass; each has help, and a default that is a valid value."""
    require_options(subject.cls, subject.name)


def options_do_not_clash_with_training(subject: Subject) -> None:
    """No option has the name of a training option; they share a command line."""
    own = required(subject.cls, "Options", HOW_OPTIONS)
    taken = {*RESERVED, *(f.name for f in schedule_options(own))}
    clash = taken & {f.name for f in opts.fields(own)}
    require(not clash, f"rename the option {listed(clash)}: training has an option of that name")


def can_be_scored(subject: Subject) -> None:
    """It has the methods that its default scorer calls."""
    name, scorer = subject.scorer
    missing = set(scorer_traits(scorer).needs) - subject.traits.capabilities
    has = listed(subject.traits.capabilities) or "none"
    require(
        not missing,
        f"its default scorer '{name}' calls {listed(missing)}, and it defines only {has}; define the method, "
        "or declare another `scorer`",
    )


def learns_if_it_says_so(subject: Subject) -> None:
    """It has trainable parameters exactly if it has a training_loss; ``lacks`` names capabilities only."""
    unknown = set(subject.traits.lacks) - set(CAPABILITIES)
    require(not unknown, f"lacks names {listed(unknown)}; only {', '.join(CAPABILITIES)} can be missing")
    parameters = [p for p in subject.new(subject.side).parameters() if p.requires_grad]
    count = sum(p.numel() for p in parameters)
    if subject.has("training_loss"):
        require(count > 0, "it defines training_loss and has 0 trainable parameters, at least 1 required")
    else:
        require(count == 0, f"it has {count} trainable parameters and no training_loss; define it, or use buffers")


def seed_decides_the_weights(subject: Subject) -> None:
    """Built twice under one seed it has the same weights, and only torch's global generator is drawn from."""
    with generators_untouched():
        one, two = (subject.new(subject.side).state_dict() for _ in range(2))
    differ = [name for name, values in one.items() if not torch.equal(values, two[name])]
    require(
        not differ,
        f"built twice under seed 0, {listed(differ)} differs, and must be equal: initialise from torch's generator",
    )


def keeps_shape_and_is_finite(subject: Subject) -> None:
    """Its result is float32, finite and of the shape of its input, for one slice, several, and an empty one."""
    image, brain = subject.healthy.image, subject.healthy.brain
    for x, inside in ((image, brain), (image[:1], brain[:1]), (image[:1] * 0, brain[:1] & False)):
        out, name = subject.outputs(subject.fresh, x, inside), subject.output
        require(out.dtype == torch.float32, f"{name} returned {out.dtype}; torch.float32 is required")
        wrong, of = int((~out.isfinite()).sum()), "slices" if x.any() else "an empty slice (all 0)"
        require(wrong == 0, f"{name} returned {wrong} values that are not finite for {of}; 0 allowed")


def deterministic_in_eval(subject: Subject) -> None:
    """In eval mode the same slices give the same result twice, and no global generator is drawn from."""
    batch = subject.healthy
    with generators_untouched():
        one, two = (subject.outputs(subject.fresh, batch.image, batch.brain) for _ in range(2))
    require_equal(one, two, f"two results of {subject.output} on the same slices in eval mode")


def input_is_not_modified(subject: Subject) -> None:
    """Its input is left unchanged."""
    shown, batch = (_copy(given) for given in (subject.healthy, subject.lessons))
    subject.outputs(subject.fresh, shown.image, shown.brain)
    _require_unchanged(shown, subject.healthy, subject.output)
    if subject.has("training_loss"):
        subject.loss(subject.new(subject.side).train(), batch)
        _require_unchanged(batch, subject.lessons, "training_loss")


def _require_unchanged(one: Batch, given: Batch, method: str) -> None:
    for name, before in given.tensors.items():
        changed = int((getattr(one, name) != before).sum())
        require(changed == 0, f"{method} changed {changed} pixels of its input '{name}' in place, 0 allowed: clone it")


def batch_equals_one_by_one(subject: Subject) -> None:
    """A slice's result does not depend on the other slices of the batch (to 1e-5 of the largest value, or of 1)."""
    if not subject.has("reconstruct"):
        raise NotApplicable("its score receives all slices of a scan at once")
    image, brain = subject.healthy.image, subject.healthy.brain
    together = subject.outputs(subject.fresh, image, brain)
    alone = torch.cat([subject.outputs(subject.fresh, image[k : k + 1], brain[k : k + 1]) for k in range(len(image))])
    require(
        _close(together, alone),
        f"slices in a batch of {len(image)} and one by one differ {difference(together, alone)}, "
        f"at most {_tolerance(together):.2g} allowed: normalise each slice by itself",
    )


def own_score_is_a_score(subject: Subject) -> None:
    """Its score is at least 0, and 0 outside the brain."""
    subject.needs("score")
    image, brain = subject.healthy.image, subject.healthy.brain
    with torch.inference_mode():
        score = subject.fresh.score(image, brain)
    require_shape(score, image, "score")
    require(bool((score >= 0).all()), f"the lowest score is {score.min():.3g}; at least 0 is required")
    highest = float(score[~brain].abs().max())
    require(highest == 0, f"scores outside the brain reach {highest:.3g}; 0 is required: multiply by brain")


def samples_are_reconstructions(subject: Subject) -> None:
    """sample(x, n) gives n finite reconstructions that are not all equal, and the same ones under the same seed."""
    subject.needs("sample")
    x = subject.healthy.image
    with torch.inference_mode(), generators_untouched():
        drawn = []
        for _ in range(2):
            with seeded(0):
                drawn.append(subject.fresh.sample(x, 3))
    wanted = (3, *x.shape)
    require_type(drawn[0], Tensor, "sample")
    require(drawn[0].shape == wanted, f"sample(x, 3) returned shape {tuple(drawn[0].shape)}; {wanted} is required")
    wrong = int((~drawn[0].isfinite()).sum())
    require(wrong == 0, f"sample returned {wrong} values that are not finite; 0 allowed")
    require(
        not torch.equal(drawn[0][0], drawn[0][1]),
        'samples 1 and 2 of 3 are equal, and must differ: declare lacks = ("sample",) where nothing is drawn',
    )
    require_equal(drawn[0], drawn[1], "two calls of sample under the same torch seed")


def objective_has_a_gradient(subject: Subject) -> None:
    """objective(x) is one finite number per slice, with a finite gradient in x that is not 0."""
    subject.needs("objective")
    x = subject.healthy.image.clone().requires_grad_()
    value = subject.fresh.objective(x)
    require_type(value, Tensor, "objective")
    require(value.shape == (len(x),), f"objective returned shape {tuple(value.shape)}; ({len(x)},) is required")
    require(bool(value.isfinite().all()), "objective is not finite for every slice; it must be")
    require(value.requires_grad, "objective has no gradient in x, and must be differentiable: do not detach x")
    (gradient,) = torch.autograd.grad(value.sum(), x, allow_unused=True)
    require(gradient is not None, "objective does not depend on x, and must be differentiable in it")
    require(bool(gradient.isfinite().all()), "the gradient of objective in x is not finite everywhere; it must be")
    require(bool(gradient.any()), "the gradient of objective in x is 0 everywhere; it must not vanish")


def loss_is_finite_with_a_gradient(subject: Subject) -> None:
    """Losses are finite scalars, and each player's "loss" has a finite gradient in all its parameters."""
    subject.needs("training_loss")
    model = subject.new(subject.side).train()
    subject.loss(model, subject.lessons)
    names = {parameter: name for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimisers = make_optimisers(model, 1.0)
    own = {name: optimiser.param_groups[0]["params"] for name, optimiser in optimisers.items()}
    nobodys = listed(names[p] for p in set(names) - {parameter for player in own.values() for parameter in player})
    require(not nobodys, f"players() gives {nobodys} to no player; every trainable parameter needs one")
    reached = set()
    for epoch in subject.stages(model):
        for turn in checked_turns(model, epoch, optimisers):
            with seeded(2):
                loss = turn.loss(subject.lessons)["loss"]
            require(loss.requires_grad, f"the loss of turn '{turn.player}' has no gradient; it must have one")
            gradients = torch.autograd.grad(loss, own[turn.player], allow_unused=True)
            for parameter, gradient in zip(own[turn.player], gradients, strict=True):
                where = f"the loss of turn '{turn.player}' has {{}} in {names.get(parameter, 'a frozen parameter')}"
                require(gradient is not None, where.format("no gradient") + ": every parameter of a player needs one")
                require(bool(gradient.isfinite().all()), where.format("a gradient that is not finite"))
                reached.add(parameter)
    missed = listed(names[p] for p in set(names) - reached)
    require(
        not missed, f"no turn trains {missed}; every trainable parameter needs one: add it to turns(), or freeze it"
    )


def loss_is_decided_by_the_seed(subject: Subject) -> None:
    """Under the same seed training_loss repeats exactly, and only torch's global generator is drawn from."""
    subject.needs("training_loss")
    model = subject.new(subject.side).train()
    with generators_untouched():
        one, two = (float(subject.loss(model, subject.lessons)["loss"].detach()) for _ in range(2))
    require(one == two, f"the loss was {one:.9g}, then {two:.9g} under the same torch seed; equal values are required")


def known_lesions_are_not_learned(subject: Subject) -> None:
    """Lesions marked as not normal cost less than lesions that are not marked."""
    subject.needs("training_loss")
    if subject.traits.supervised:
        raise NotApplicable("it learns from lesions")
    image, lesion = planted(subject.healthy)
    model = subject.new(subject.side)
    unmarked, marked = (replace(subject.healthy, image=image, normal=normal) for normal in (lesion | True, ~lesion))
    with torch.no_grad():
        losses = [float(subject.loss(model, batch)["loss"]) for batch in (marked, unmarked)]
    require(
        losses[0] < losses[1],
        f"the loss is {losses[0]:.6g} with lesions marked in batch.normal and {losses[1]:.6g} without; "
        "it must be lower with them: leave pixels out where batch.normal is False",
    )


def unknown_labels_are_not_learned(subject: Subject) -> None:
    """The loss of a model that learns from labels ignores labels where they are not known, and uses the others."""
    if not subject.traits.supervised:
        raise NotApplicable("it does not learn from labels")
    subject.needs("training_loss")
    lessons, model = subject.lessons, subject.new(subject.side)
    with torch.no_grad():
        unmarked = replace(lessons, lesion=~lessons.known)
        marked, bare = (replace(batch, known=~lessons.lesion) for batch in (lessons, unmarked))
        losses = [float(subject.loss(model, batch)["loss"]) for batch in (marked, bare, lessons, unmarked)]
    require(
        losses[0] == losses[1],
        f"labels where batch.known is False change the loss from {losses[1]:.6g} to {losses[0]:.6g}; "
        "it must not change: leave those pixels out",
    )
    require(
        losses[2] != losses[3],
        f"the loss is {losses[2]:.6g} with and without labels where batch.known is True; it must depend on them",
    )


def loss_falls(subject: Subject) -> None:
    """A few steps of training on one batch lower the loss by at least 5 %."""
    subject.needs("training_loss")
    with torch.no_grad():
        before, after = (float(subject.loss(m, subject.lessons)["loss"]) for m in (subject.fresh, subject.trained))
    fall = 100 * (before - after) / abs(before) if before else 0.0
    require(
        after < (1 - FALL) * before,
        f"loss {'rose' if fall < 0 else 'fell'} by {abs(fall):.3g} % ({before:.4g} to {after:.4g}), "
        f"at least {100 * FALL:g} % fall needed in {STEPS} steps with learning rate {LEARNING_RATE:g}; "
        "set `quick` to options that learn faster, or exempt = {'loss_falls': reason}",
    )


def planted_lesion_outscores_the_brain(subject: Subject) -> None:
    """After a few steps of training, bright lesions score higher with the default scorer than the brain around them."""
    image, lesion = planted(subject.healthy)
    name, scorer = subject.scorer
    trained = subject.trained  # trained here: not in inference mode
    with torch.inference_mode(not scorer_traits(scorer).needs_gradient):
        score = scorer.score(trained, image, subject.healthy.brain).score
    inside, around = float(score[lesion].mean()), float(score[subject.healthy.brain & ~lesion].mean())
    require(
        inside > CONTRAST * around,
        f"after {STEPS} steps the mean score by '{name}' is {inside:.4g} in bright lesions and {around:.4g} in the "
        f"brain around them; more than {CONTRAST:g} times that is required, or "
        "exempt = {'planted_lesion_outscores_the_brain': reason}",
    )


def checkpoint_keeps_every_bit(subject: Subject) -> None:
    """Saved and loaded, its weights and its results are equal to the last bit."""
    checkpoint = checkpoints.new(subject.name, opts.as_dict(subject.options), Preparation())
    side = checkpoint.preparation.pixels
    checkpoint = replace(checkpoint, weights=checkpoints.pack(subject.new(side)))
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"model{checkpoints.SUFFIX}"
        checkpoint.save(path)
        loaded = checkpoints.load(path)
    require(
        loaded.digest == checkpoint.digest,
        f"the digest was {checkpoint.digest} when saved and {loaded.digest} when loaded; they must be equal",
    )
    batch = healthy_slices(2, side)
    one, two = (subject.outputs(c.build(), batch.image, batch.brain) for c in (checkpoint, loaded))
    require_equal(one, two, "results before saving and after loading")
    with seeded(7):
        other = loaded.new_model().eval()
    other.load_state_dict(subject.new(side).state_dict())
    rebuilt = subject.outputs(other, batch.image, batch.brain)
    require(
        _close(one, rebuilt),
        f"with the same state_dict, results differ {difference(one, rebuilt)}, at most {_tolerance(one):.2g} allowed: "
        "register what the model learns as parameters or buffers",
    )


def _tolerance(one: Tensor) -> float:
    return ALIKE * max(1.0, float(one.abs().max()))


def _close(one: Tensor, two: Tensor) -> bool:
    return one.shape == two.shape and torch.allclose(one, two, rtol=0, atol=_tolerance(one))


def _copy(batch: Batch) -> Batch:
    return batch.each(torch.clone)
