"""Checks, their failures and their outcomes."""

from __future__ import annotations

import random
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from uadtk.core import options as opts
from uadtk.core.errors import UadtkError, UsageError

HOW_OPTIONS = "declare a frozen dataclass, or Options = uadtk.plugin.NoOptions"


class NotApplicable(Exception):
    """Raised by a check that does not apply to this subject; the message is the reason."""


class Failed(AssertionError):
    """Raised by a check that does not hold; the message states what was measured and what is required."""


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
    """``exempt`` comes with its reason, ``failed`` with what was measured and what is required."""

    check: Check
    status: Literal["ok", "failed", "exempt"]
    reason: str = ""


@contextmanager
def generators_untouched() -> Iterator[None]:
    """Requires the global generators of torch, NumPy and Python to be in the same state afterwards."""
    before = _generators()
    yield
    for name, state in _generators().items():
        require(
            state == before[name],
            f"the global generator of {name} was drawn from, and must stay untouched: use a seeded one of its own",
        )


def require(condition: bool, otherwise: str) -> None:
    """Raises ``Failed`` unless the condition holds; ``otherwise`` states what was measured and what is required."""
    if not condition:
        raise Failed(otherwise)


def required(owner: Any, name: str, how: str) -> Any:
    """The attribute of that name, or ``Failed``; ``how`` explains, for the message, how to declare it."""
    value = getattr(owner, name, None)
    require(value is not None, f"it has no '{name}', which is required: {how}")
    return value


def require_type(value: Any, wanted: type, returned_by: str) -> None:
    require(isinstance(value, wanted), f"{returned_by} returned {type(value).__name__}; {wanted.__name__} is required")


def require_equal(one: Tensor, two: Tensor, what: str) -> None:
    """Requires two results to be equal to the last bit."""
    require(torch.equal(one, two), f"{what} differ ({difference(one, two)}), and must be equal to the last bit")


def difference(one: Tensor, two: Tensor) -> str:
    """How far two tensors are apart, in words."""
    if one.shape != two.shape:
        return f"shapes {tuple(one.shape)} and {tuple(two.shape)}"
    return f"by up to {(one.float() - two.float()).abs().max():.2g}"


def require_options(cls: Any, owner: str) -> None:
    """Options are a frozen dataclass; each has help, and a default that is a valid value."""
    options = required(cls, "Options", HOW_OPTIONS)
    frozen = is_dataclass(options) and getattr(options, "__dataclass_params__").frozen  # noqa: B009
    require(frozen, "Options must be a frozen dataclass: decorate it with @dataclass(frozen=True)")
    for field in opts.fields(options):
        require(
            bool(field.help), f"option '{field.name}' has no help: declare it with uadtk.plugin.option(default, help)"
        )
    wrong = [f.name for f in fields(options) if not f.name.islower()]
    require(
        not wrong, f"option '{wrong[0] if wrong else ''}' must be lower_case, for it is --lower-case in the command"
    )
    try:
        defaults = options()
    except TypeError as error:
        raise Failed(f"every option needs a default ({error})") from None
    try:
        built = opts.build(options, opts.as_dict(defaults), owner)
    except UsageError as error:
        raise Failed(f"the default of an option is refused: {error.one_line()}") from None
    require(built == defaults, f"defaults change when they are stored and read: {defaults} became {built}")


def described(error: Exception, cls: Any) -> str:
    """``method raised Type: message (file:line)``, located in the file of the class if it got that far."""
    frames = traceback.extract_tb(error.__traceback__)
    home = getattr(sys.modules.get(cls.__module__), "__file__", None)
    own = [frame for frame in frames if frame.filename == home]
    at = (own or frames)[-1]
    message = error.one_line() if isinstance(error, UadtkError) else " ".join(str(error).split())
    if not own and isinstance(error, UadtkError):
        return f"uadtk refuses it: {message}"
    caller = own[0].name if own else "calling it"
    return f"{caller} raised {type(error).__name__}: {message} ({Path(at.filename).name}:{at.lineno})"


def listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _generators() -> dict[str, object]:
    _, keys, *rest = np.random.get_state(legacy=True)
    numpy_state = (np.asarray(keys).tobytes(), *rest)
    return {"torch": torch.get_rng_state().tolist(), "NumPy": numpy_state, "Python": random.getstate()}
