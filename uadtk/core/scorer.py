"""What a scorer is: it turns slices and a model into abnormality per pixel.

A scorer is one file with one class ``Scorer`` and its ``Options``. ``needs`` names the model methods it calls, so that
a model without them is refused in one line. Slices come in batches, unless the class says ``whole_scan = True``; they
come without gradients, unless it says ``needs_gradient = True``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Scored:
    """``score`` (B, 1, S, S), finite, >= 0, higher = more abnormal; ``maps``: further named images of the same shape.

    The map ``reconstruction`` is written as the pseudo-healthy image.
    """

    score: Tensor
    maps: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class ScorerTraits:
    """What a scorer declares, with the defaults; see the module docstring."""

    needs: tuple[str, ...] = ()
    whole_scan: bool = False
    needs_gradient: bool = False


def scorer_traits(scorer: Any) -> ScorerTraits:
    """The traits of a scorer, class or instance. Options may decide ``needs``, so prefer the instance."""
    names = (f.name for f in fields(ScorerTraits))
    return ScorerTraits(**{name: getattr(scorer, name) for name in names if hasattr(scorer, name)})


class Scorer(Protocol):
    Options: ClassVar[type[Any]]
    needs: ClassVar[tuple[str, ...]]

    def __init__(self, options: Any) -> None: ...

    def score(self, model: Any, x: Tensor, brain: Tensor) -> Scored:
        """Score slices ``x`` (B, 1, S, S) inside ``brain`` (bool, same shape)."""
        ...
