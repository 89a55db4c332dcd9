"""What a model is: a ``torch.nn.Module`` that learned normal anatomy.

A model is one file with one class ``Model`` and its ``Options``. What it can do it declares by having the method:

``training_loss(batch) -> {"loss": scalar, ...}``
    The differentiable loss to minimise and, beside it, further scalars worth logging. Absent: nothing to train.
``reconstruct(x) -> x̂``
    Pseudo-healthy image of ``x`` (B, 1, S, S); deterministic in ``eval`` mode.
``sample(x, n) -> (n, B, 1, S, S)``
    Stochastic reconstructions, for Monte-Carlo scoring.
``objective(x) -> (B,)``
    Differentiable in ``x``: how badly each image fits the model, for gradient and restoration scoring.
``score(x, brain) -> (B, 1, S, S)``
    For models without a reconstruction: abnormality itself. Sees all slices of one scan at once.

Adversarial models have several players, each with an optimiser of its own:

``players() -> {name: parameters}``
    Whose parameters are whose; one may belong to several. Absent: one player, ``model``, that has them all.
``turns(epoch) -> [Turn, ...]``
    What the players do on every batch of that epoch (counted from 1), in this order. ``training_loss`` is then what is
    measured on held-out slices alone: it decides when to stop and which weights are kept.
``judged_from: float``
    Epoch from which it does so, by default 1; ``math.inf``: never, all epochs are run and the last weights kept.

``conclude(batches) -> None``
    Called once after training, with the weights that are kept and all training slices: to fit what gradients do not.
    A model with this and without ``training_loss`` is trained by it alone.

``cleaners: tuple[str, ...]``
    What a new checkpoint names; by default an erosion of the brain and a median, which residuals need.

Models that learn from labels say so:

``supervised = True``
    Batches are drawn from all slices of labelled scans, in equal parts from those that people annotated and those that
    something else labelled (the cohort's ``label_source``); held-out slices are labelled ones.
``unlabelled = True``
    And a further equal part from scans without labels.
``neighbours: int``
    So many slices on either side come with each, as further channels of ``Batch.image``; by default 0.

Images are float32, about [0, 1] (brain intensity divided by its 98th percentile), 0 outside the brain.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

CAPABILITIES = ("training_loss", "reconstruct", "sample", "objective", "score")


@dataclass(frozen=True)
class Batch:
    """Slices to learn from, all (B, 1, S, S).

    ``image`` float32; ``brain`` bool; ``normal`` bool, False where a known lesion must not be learned (always True
    when only lesion-free slices are used). ``image`` has 1 + 2n channels, the slice in their middle, where a model asks
    for n neighbours.

    For models that learn from labels, bool and by default all False: ``lesion`` where one is marked, ``known`` where
    the label is known, lesion or not; and for slices without labels ``hint`` where something else suspects a lesion,
    ``hinted`` where it was asked (the cohort's ``prior_mask``).
    """

    image: Tensor
    brain: Tensor
    normal: Tensor
    lesion: Tensor = None  # type: ignore[assignment]
    known: Tensor = None  # type: ignore[assignment]
    hint: Tensor = None  # type: ignore[assignment]
    hinted: Tensor = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        for name in ("lesion", "known", "hint", "hinted"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, self.brain & False)

    def each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with every tensor changed in the same way, as ``batch.each(lambda t: t[:4])``."""
        return Batch(*(change(getattr(self, field.name)) for field in fields(self)))


@dataclass(frozen=True)
class Turn:
    """``times`` steps of one player on a batch, down the gradient of ``loss(batch)["loss"]`` in its own parameters."""

    player: str
    loss: Callable[[Batch], dict[str, Tensor]]
    times: int = 1


@runtime_checkable
class Model(Protocol):
    """The least a model has; see the module docstring for what it may have besides."""

    Options: ClassVar[type[Any]]

    def __init__(self, options: Any, side: int) -> None: ...


def capabilities(model: Any) -> frozenset[str]:
    """Which of ``CAPABILITIES`` a model (class or instance) has."""
    return frozenset(name for name in CAPABILITIES if callable(getattr(model, name, None)))


def default_scorer(model: Any) -> str:
    """The scorer a new checkpoint of this model names: its own score if it has one, else the residual."""
    return "own" if "score" in capabilities(model) else "residual"
