"""Attribute names of each contract, and public names that are near misses of one."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from uadtk.core.model import CAPABILITIES, Traits
from uadtk.core.scorer import ScorerTraits
from uadtk.registry import Kind

CUTOFF = 0.8  # of difflib's ratio: one or two letters differ
_METHOD, _CLASS = "a method", "a class"
_SHARED = {"Options": _CLASS, "exempt": "a dict"}


def _sort(value: Any) -> str:
    """The sort of attribute that a value is; '' for tensors, networks and others that no contract uses."""
    sorts: list[tuple[Any, str]] = [
        ((nn.Module, Tensor), ""),
        (type, _CLASS),
        (str, "text"),
        ((bool, int, float), "a number"),
        (Mapping, "a dict"),
        ((tuple, list), "a tuple"),
        (property, "a property"),
        ((Callable, classmethod), _METHOD),
    ]
    return next((sort for kinds, sort in sorts if isinstance(value, kinds)), "")


def _declared(traits: type) -> dict[str, str]:
    """Names and sorts of the fields of a traits class, by their defaults; where that is None, it is a method."""
    defaults = vars(traits())
    return {name: _METHOD if default is None else _sort(default) for name, default in defaults.items()}


CONTRACTS: dict[Kind, dict[str, str]] = {
    "models": {
        **{name: sort for name, sort in _declared(Traits).items() if name != "capabilities"},
        **dict.fromkeys(CAPABILITIES, _METHOD),
        **_SHARED,
    },
    "scorers": {**_declared(ScorerTraits), "score": _METHOD, **_SHARED},
    "thresholders": {"needs_lesions": "a number", "choose": _METHOD, "check_subjects": _METHOD, **_SHARED},
    "cleaners": {"clean": _METHOD, **_SHARED},
}


def public_names(instance: Any) -> dict[str, Any]:
    """Public attributes that the class, its bases or the instance define; not those of ``nn.Module`` and ``object``."""
    found: dict[str, Any] = {}
    for base in reversed(type(instance).__mro__):
        if base not in (object, nn.Module):
            found |= vars(base)
    found |= vars(instance)
    found |= dict(instance.named_children()) if isinstance(instance, nn.Module) else {}
    inherited = {*dir(nn.Module), "training"}
    return {name: value for name, value in found.items() if not name.startswith("_") and name not in inherited}


def near_misses(kind: Kind, instance: Any) -> dict[str, str]:
    """Public name -> the name of the contract that it resembles, for attributes of the same sort.

    A method such as ``samples`` is no near miss if the class also defines ``sample``.
    """
    known, found = CONTRACTS[kind], public_names(instance)
    has = {name for name in known if known[name] == _METHOD and found.get(name) is not None}
    wanted = {name.lower(): name for name in known if name not in has}
    misses = {}
    for name, value in found.items():
        close = [] if name in known else difflib.get_close_matches(name.lower(), wanted, n=1, cutoff=CUTOFF)
        if close and _sort(value) in (known[wanted[close[0]]], "a property"):
            misses[name] = wanted[close[0]]
    return misses


def wrong_sorts(kind: Kind, instance: Any) -> dict[str, tuple[Any, str]]:
    """Attributes of the contract with a value of the wrong sort: name -> value and the sort it should be."""
    known, found = CONTRACTS[kind], public_names(instance)
    own = {name: value for name, value in found.items() if name in known and value is not None}
    return {
        name: (value, known[name]) for name, value in own.items() if _sort(value) not in (known[name], "a property")
    }
