"""The contract of a scorer: it computes an anomaly score per pixel from slices and a model.

A scorer is one file with a class ``Scorer`` and its ``Options``. It declares:

``needs: tuple[str, ...]``
    The methods of the model that it calls; a model without them is refused with a clear message.
``whole_scan = True``
    It receives all slices of a scan at once, instead of batches.
``needs_gradient = True``
    It runs with gradients enabled, instead of in inference mode.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Scored:
    """``score`` (B, 1, S, S), finite, >= 0, higher = more abnormal; ``maps``: further named images of that shape.

    The map ``reconstruction`` is written as the pseudo-healthy image.
    """

    score: Tensor
    maps: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class ScorerTraits:
    """Everything that a scorer declares, and the defaults; see the module docstring."""

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
