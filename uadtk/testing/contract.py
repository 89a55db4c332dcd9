"""What a check is, and what came of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import torch

from uadtk.core import options as opts

F = TypeVar("F", bound=Callable[..., None])


class NotApplicable(Exception):
    """Raised by a check that has nothing to say about this specimen; the message is the reason."""


@dataclass(frozen=True)
class Check:
    """One sentence that must hold for one model, scorer, thresholder or cleaner."""

    kind: str
    name: str
    title: str
    sentence: str
    function: Callable[[Any], None]
    subject: Any

    def __str__(self) -> str:
        return f"{self.kind[:-1]}-{self.name}-{self.title}"


@dataclass(frozen=True)
class Outcome:
    """``exempt`` comes with its reason, ``failed`` with what was seen."""

    check: Check
    status: Literal["ok", "failed", "exempt"]
    reason: str = ""


@contextmanager
def generators_untouched() -> Iterator[None]:
    """The generators of torch, NumPy and Python are afterwards as they were."""
    before = _generators()
    yield
    for name, state in _generators().items():
        require(state == before[name], f"it draws from {name}'s global generator")


def require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise AssertionError(otherwise)


def require_options(cls: Any, owner: str) -> None:
    """Options are a frozen dataclass; each has help, and a default that is a valid value."""
    options = cls.Options
    frozen = is_dataclass(options) and getattr(options, "__dataclass_params__").frozen  # noqa: B009
    require(frozen, "Options is not a frozen dataclass")
    for field in opts.fields(options):
        require(bool(field.help), f"option '{field.name}' has no help")
    require(all(f.name.islower() for f in fields(options)), "an option's name is not lower_case")
    require(opts.build(options, opts.as_dict(options()), owner) == options(), "a default is not a valid value")


def _generators() -> dict[str, object]:
    _, keys, *rest = np.random.get_state(legacy=True)
    numpy_state = (np.asarray(keys).tobytes(), *rest)
    return {"torch": torch.get_rng_state().tolist(), "NumPy": numpy_state, "Python": random.getstate()}
