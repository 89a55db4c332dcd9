"""Values from outside (checkpoints, receipts, manifests), checked once, when they are read.

A check is a function of a value and its name; it raises ``ValueError`` with both. ``record`` and ``items`` build checks
of checks::

    POINT = record({"name": text(), "threshold": number(ge=0), "min_voxels": optional(whole(1, 2**31))})
    POINT(value, "point")
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

Check = Callable[[Any, str], None]
DEEPEST = 50


def parse_json(text: str | bytes) -> Any:
    """``json.loads``, with ValueError for nesting that exhausts the interpreter's stack, too."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def number(ge: float = -math.inf, le: float = math.inf) -> Check:
    """A finite number in a range."""

    def check(value: Any, name: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{name} is not a number")
        if not (abs(value) < math.inf and ge <= value <= le):
            raise ValueError(f"{name} is {_short(value)}, not {_range(ge, le)}")

    return check


def whole(ge: int, le: int) -> Check:
    def check(value: Any, name: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not ge <= value <= le:
            raise ValueError(f"{name} is {_short(value)}, not a whole number {_range(ge, le)}")

    return check


def text(longest: int = 10_000) -> Check:
    def check(value: Any, name: str) -> None:
        if not isinstance(value, str) or len(value) > longest:
            raise ValueError(f"{name} is not a text of at most {longest} characters")

    return check


def one_of(*values: Any) -> Check:
    def check(value: Any, name: str) -> None:
        if not any(type(value) is type(one) and value == one for one in values):
            raise ValueError(f"{name} is {_short(value)}, not one of {', '.join(map(str, values))}")

    return check


def optional(inner: Check) -> Check:
    """It may be null."""

    def check(value: Any, name: str) -> None:
        if value is not None:
            inner(value, name)

    return check


def items(inner: Check, most: int = 10_000, least: int = 0) -> Check:
    """A list of ``least`` to ``most`` values."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, list | tuple) or not least <= len(value) <= most:
            length = f"{most}" if least == most else f"{least} to {most}" if least else f"at most {most}"
            raise ValueError(f"{name} is not a list of {length}")
        for place, item in enumerate(value):
            inner(item, f"{name}[{place}]")

    return check


def mapping(inner: Check) -> Check:
    """Any names, with values of one kind."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{name} is not a mapping")
        for key, item in value.items():
            inner(item, f"{name}.{_short(key)}")

    return check


def record(needed: Mapping[str, Check], later: Mapping[str, Check] | None = None) -> Check:
    """A mapping with all that are ``needed``; ``later`` ones may be missing. Others are ignored."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{name} is not a mapping")
        for key, inner in needed.items():
            if key not in value:
                raise ValueError(f"{name} lacks '{key}'")
            inner(value[key], f"{name}.{key}")
        for key, inner in (later or {}).items():
            if key in value:
                inner(value[key], f"{name}.{key}")

    return check


def like(cls: Any, **special: Check) -> Check:
    """A mapping with exactly the fields of a dataclass, of its types; ``special``: checks of fields of other types."""
    simple = {"str": text(), "int": whole(-(2**53), 2**53), "float": number(), "bool": one_of(True, False)}
    checks = {field.name: special.get(field.name) or simple[str(field.type)] for field in fields(cls)}

    def check(value: Any, name: str) -> None:
        record(checks)(value, name)
        if other := value.keys() - checks.keys():
            raise ValueError(f"{name} has a value '{_short(min(other))}'")

    return check


def plain(value: Any, name: str, depth: int = 0) -> None:
    """Anything that JSON can hold, not nested deeper than ``DEEPEST``."""
    if depth > DEEPEST:
        raise ValueError(f"{name} is nested too deeply")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        plain(item, name, depth + 1)


def _short(value: Any) -> str:
    return repr(value)[:40]


def _range(ge: float, le: float) -> str:
    if le == math.inf:
        return "finite" if ge == -math.inf else f"of at least {ge:g}"
    return f"from {ge:g} to {le:g}"
