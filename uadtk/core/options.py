"""Options: one frozen dataclass per model, scorer, thresholder or cleaner.

Command line, configuration file, checkpoint and README are derived from the dataclass, and all of them check values
here::

    @dataclass(frozen=True)
    class Options:
        levels: int = option(3, "Band-pass levels of the pyramid.", ge=1, le=5)
        loss: Literal["l1", "l2"] = option("l1", "Reconstruction loss.")
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from uadtk.core.errors import UsageError, did_you_mean

T = TypeVar("T")

MOST = 1e6
_BOOLS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def option(default: T, help: str, *, ge: float | None = None, le: float | None = None) -> T:
    """A dataclass field with help and, for numbers, an inclusive range; without ``le``, numbers end at ``MOST``."""
    return dataclasses.field(default=default, metadata={"help": help, "ge": ge, "le": le})


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """For what has no options."""


@dataclasses.dataclass(frozen=True)
class Field:
    """One option as the command line and the documentation see it."""

    name: str
    type: Any
    default: Any
    help: str
    ge: float | None
    le: float | None

    @property
    def choices(self) -> tuple[str, ...]:
        return typing.get_args(self.type) if typing.get_origin(self.type) is Literal else ()


def fields(options: type) -> list[Field]:
    """The options of a dataclass, with their types resolved."""
    hints = typing.get_type_hints(options)
    found = []
    for f in dataclasses.fields(options):
        le = f.metadata.get("le")
        most = MOST if le is None and _numeric(hints[f.name]) else le
        found.append(Field(f.name, hints[f.name], f.default, f.metadata.get("help", ""), f.metadata.get("ge"), most))
    return found


def _numeric(kind: Any) -> bool:
    """Of int and float, of lists of them, and where there may be none."""
    return kind in (int, float) or any(_numeric(part) for part in typing.get_args(kind))


def build(options: type[T], values: Mapping[str, Any], owner: str) -> T:
    """``options(**values)`` with every value converted and checked.

    Raises
    ------
    UsageError
        Unknown option (with a suggestion), wrong type, value not finite or out of range.
    """
    known = {f.name: f for f in fields(options)}
    for name in values:
        if name not in known:
            raise UsageError(f"no option '{name}'", owner, did_you_mean(name, known) if known else "It has no options.")
    return options(**{name: _convert(value, known[name], owner) for name, value in values.items()})


def as_dict(options: Any) -> dict[str, Any]:
    """The options as JSON-able values."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(options).items()}


def _convert(value: Any, field: Field, owner: str) -> Any:
    where = f"{owner}: {field.name}={value}"
    if field.choices:
        if value not in field.choices:
            raise UsageError("not a choice", where, f"Choose {' or '.join(field.choices)}.")
        return value
    try:
        converted = _cast(value, field.type)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UsageError(f"not a {_type_name(field.type)}", where) from None
    for number in converted if isinstance(converted, tuple) else (converted,):
        if isinstance(number, float) and not math.isfinite(number):
            raise UsageError("must be finite", where)
        if field.ge is not None and number is not None and not number >= field.ge:
            raise UsageError(f"must be at least {field.ge:g}", where)
        if field.le is not None and number is not None and not number <= field.le:
            raise UsageError(f"must be at most {field.le:g}", where)
    return converted


def _cast(value: Any, to: Any) -> Any:
    origin, args = typing.get_origin(to), typing.get_args(to)
    if origin in (typing.Union, types.UnionType):  # X | None
        return None if value in (None, "none", "None") else _cast(value, args[0])
    if origin is tuple:
        parts = re.findall(r"[^/,\s]+", value) if isinstance(value, str) else value
        return tuple(_cast(part, args[0]) for part in parts)
    if to is bool:
        return _BOOLS[str(value).lower()]
    if to is int and isinstance(value, float) and value != int(value):
        raise ValueError(value)
    return to(value)


def _type_name(to: Any) -> str:
    origin, args = typing.get_origin(to), typing.get_args(to)
    if origin is tuple:
        return f"list of {_type_name(args[0])}s"
    if origin in (typing.Union, types.UnionType):
        return f"{_type_name(args[0])} or none"
    return {int: "whole number", float: "number", bool: "true/false", str: "text"}.get(to, str(to))
