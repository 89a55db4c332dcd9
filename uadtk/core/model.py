"""The contract of a model: a ``torch.nn.Module`` that has learned normal anatomy.

A model is one file with a class ``Model`` and its ``Options``. It has a capability by defining the method:

``training_loss(batch) -> {"loss": scalar, ...}``
    The differentiable loss to minimise, and further scalars to log. Without it there is nothing to train.
``reconstruct(x) -> x̂``
    Pseudo-healthy image of ``x`` (B, 1, S, S); deterministic in ``eval`` mode.
``sample(x, n) -> (n, B, 1, S, S)``
    Stochastic reconstructions, for Monte-Carlo scoring.
``objective(x) -> (B,)``
    How badly each image fits the model, differentiable in ``x``; for gradient and restoration scoring.
``score(x, brain) -> (B, 1, S, S)``
    For models without a reconstruction: the anomaly score itself. Receives all slices of a scan at once.
``lacks: tuple[str, ...]``
    Methods that are of no use with these options, such as ``("sample",)`` without dropout.

Everything else is optional, and :class:`Traits` lists the defaults. What checkpoints and provenance store:

``scorer: str``
    Scorer, with options if need be (``"montecarlo:samples=20"``); by default ``own`` if there is a ``score`` method,
    else ``residual``.
``cleaners: tuple[str, ...]``
    Cleaners in their order; by default those that suit residuals, an erosion of the brain mask and a median.
``arithmetic: str``
    In which it computes scores (``bfloat16``), for the provenance; by default ``float32``.

How it is trained:

``betas: tuple[float, float]``
    Decay rates of Adam's two moments; by default (0.5, 0.999).
``conclude(batches) -> None``
    Called once after training, with the weights to be stored and all training slices, to fit what has no gradient; the
    results belong in buffers. A model with this and without ``training_loss`` is fitted by it alone.

Adversarial models have several players, each with its own optimiser:

``players() -> {name: parameters}``
    The parameters of each player; players may share some. By default one player, ``model``, owns all.
``turns(epoch) -> [Turn, ...]``
    The steps on each batch of that epoch (the first is 1), in order. ``training_loss`` is then computed on held-out
    slices only, for early stopping and to select the weights.
``judged_from: float``
    First epoch whose validation loss counts; by default 1. ``math.inf``: all epochs are run and the last weights kept.

Models that learn from labels:

``supervised = True``
    Batches are drawn from all slices of labelled scans, half from manual labels and half from other labels (the
    cohort's ``label_source``) where there are both; held-out slices are labelled ones.
``unlabelled = True``
    Adds an equal share of slices from scans without labels.

Models that see adjacent slices (2.5-D):

``neighbours: int``
    Number of adjacent slices on each side, as further channels of ``Batch.image``; by default 0. Methods that score
    receive consecutive slices of one scan, as many more on each side.

For the contract kit (``uadtk check``):

``quick: dict``
    Options to test with where the defaults are slow, such as ``{"steps": 10}``.
``exempt: dict[str, str]``
    Checks that cannot hold, each with the reason.

Images are float32, about [0, 1] (brain intensity divided by its 98th percentile), 0 outside the brain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from uadtk.core.preparation import Preparation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor, nn

CAPABILITIES = ("training_loss", "reconstruct", "sample", "objective", "score")
DEFAULT_CLEANERS = ("erode:iterations=3", "median:size=6,unit=mm")


@dataclass(frozen=True)
class Batch:
    """Slices to learn from, all tensors (B, 1, S, S).

    ``image`` float32; ``brain`` bool; ``normal`` bool, False where a known lesion must not be learned (all True when
    only lesion-free slices are used). For a model with n ``neighbours``, ``image`` has 1 + 2n channels with the slice
    itself in the middle. ``clean`` float32: the slices without the lesions that training has implanted into ``image``
    (``--corruption implants``), else None; ``target`` is what to reconstruct.

    For models that learn from labels, bool and all False by default: ``lesion``, the label; ``known``, where there is a
    label, lesion or not. For slices without labels, from the cohort's ``prior_mask``: ``hint``, where a lesion is
    suspected; ``hinted``, where the mask is defined.

    ``pixel_mm``: size of a pixel in mm, that of the preparation; by default that of the default preparation.
    """

    image: Tensor
    brain: Tensor
    normal: Tensor
    lesion: Tensor = None  # type: ignore[assignment]
    known: Tensor = None  # type: ignore[assignment]
    hint: Tensor = None  # type: ignore[assignment]
    hinted: Tensor = None  # type: ignore[assignment]
    clean: Tensor | None = None
    pixel_mm: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        for name in ("lesion", "known", "hint", "hinted"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, self.brain & False)
        if not self.pixel_mm:
            object.__setattr__(self, "pixel_mm", Preparation().field_mm / self.image.shape[-1])

    @property
    def own(self) -> Tensor:
        """The slices without their neighbours, (B, 1, S, S)."""
        middle = self.image.shape[1] // 2
        return self.image[:, middle : middle + 1]

    @property
    def target(self) -> Tensor:
        """What to reconstruct from ``image``, (B, 1, S, S): the slices themselves, or ``clean``."""
        return self.own if self.clean is None else self.clean

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name; without ``clean`` where it is None."""
        named = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "pixel_mm"}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with ``change`` applied to every tensor, as in ``batch.each(lambda t: t[:4])``."""
        changed: dict[str, Any] = {name: change(tensor) for name, tensor in self.tensors.items()}
        return replace(self, **changed)


@dataclass(frozen=True)
class Turn:
    """``times`` steps of one player on a batch, minimising ``loss(batch)["loss"]`` over its own parameters.

    ``once``: computes from the batch what these steps need and do not change, such as the output of another player's
    network. It is called before the first of them, without gradient, and its result is the second argument of ``loss``,
    which computes it itself where there is none.
    """

    player: str
    loss: Callable[..., dict[str, Tensor]]
    times: int = 1
    once: Callable[[Batch], Any] | None = None


@runtime_checkable
class Model(Protocol):
    """The minimum; the module docstring lists everything a model may define."""

    Options: ClassVar[type[Any]]

    def __init__(self, options: Any, side: int) -> None: ...


@dataclass(frozen=True)
class Traits:
    """Everything that a model declares, and the default where it declares nothing; see the module docstring.

    ``capabilities`` is derived: the methods of ``CAPABILITIES`` that it defines and does not list in ``lacks``.
    ``players``, ``turns`` and ``conclude`` are the model's methods, or None.
    """

    capabilities: frozenset[str] = frozenset()
    lacks: tuple[str, ...] = ()
    scorer: str = ""
    cleaners: tuple[str, ...] = DEFAULT_CLEANERS
    betas: tuple[float, float] = (0.5, 0.999)
    conclude: Callable[[Iterable[Batch]], None] | None = None
    players: Callable[[], dict[str, Iterable[nn.Parameter]]] | None = None
    turns: Callable[[int], Sequence[Turn]] | None = None
    judged_from: float = 1
    arithmetic: str = "float32"
    supervised: bool = False
    unlabelled: bool = False
    neighbours: int = 0
    quick: Mapping[str, Any] = field(default_factory=dict)
    exempt: Mapping[str, str] = field(default_factory=dict)


def traits(model: Any) -> Traits:
    """The traits of a model, class or instance. Options may decide some of them, so prefer the instance."""
    derived = {"capabilities", "scorer"}
    found = {f.name: getattr(model, f.name, None) for f in fields(Traits) if f.name not in derived}
    declared = {name: value for name, value in found.items() if value is not None}
    lacks = declared.get("lacks", ())
    can = frozenset(n for n in CAPABILITIES if n not in lacks and callable(getattr(model, n, None)))
    scorer = getattr(model, "scorer", None) or ("own" if "score" in can else "residual")
    return Traits(capabilities=can, scorer=scorer, **declared)


def capabilities(model: Any) -> frozenset[str]:
    """The subset of ``CAPABILITIES`` that a model (class or instance) has."""
    return traits(model).capabilities


def default_scorer(model: Any) -> str:
    """The scorer stored in a new checkpoint of this model."""
    return traits(model).scorer
