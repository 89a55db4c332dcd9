"""The contract kit: what a model, scorer, thresholder or cleaner must keep to, as small named checks.

On the command line ``uadtk check NAME``; in a plugin's tests::

    import pytest
    from uadtk.testing import checks, run_check

    @pytest.mark.parametrize("check", checks("models", "vqvae"), ids=str)
    def test_contract(check):
        outcome = run_check(check)
        assert outcome.status != "failed", outcome.reason

A class that cannot keep to a check says so with its reason: ``exempt = {"loss_falls": "..."}``. Such a check must then
fail: an exemption that is no longer needed is itself a failure. uadtk's own tests are this kit over its own registry.
"""

from __future__ import annotations

import inspect
import re
from types import ModuleType
from typing import Any

import torch

from uadtk import registry
from uadtk.core.errors import UsageError, did_you_mean
from uadtk.testing import checks_cleaners, checks_models, checks_scorers, checks_thresholders
from uadtk.testing.contract import Check, NotApplicable, Outcome, require
from uadtk.testing.installed import installed

__all__ = ["KINDS", "Check", "Outcome", "checks", "installed", "run_check"]

_MODULES: dict[registry.Kind, ModuleType] = {
    "models": checks_models,
    "scorers": checks_scorers,
    "thresholders": checks_thresholders,
    "cleaners": checks_cleaners,
}
KINDS = tuple(_MODULES)


def checks(kind: registry.Kind, name: str) -> list[Check]:
    """Every check for one kind of thing, about the one of that name.

    Raises
    ------
    UsageError
        Nothing of that name, or a kind that has no contract.
    PluginError
        It cannot be loaded.
    """
    if kind not in _MODULES:
        raise UsageError(f"no contract for '{kind}'", fix=did_you_mean(kind, KINDS))
    module = _MODULES[kind]
    subject = module.Subject(name)
    functions: list[Any] = [entry_can_be_shown]
    functions += [f for f in vars(module).values() if inspect.isfunction(f) and f.__module__ == module.__name__]
    public = [f for f in functions if not f.__name__.startswith("_")]
    return [Check(kind, name, f.__name__, inspect.getdoc(f) or "", f, subject) for f in public]


def run_check(check: Check) -> Outcome:
    """Run it; never raises, whatever the thing under test does."""
    excuse = getattr(check.subject.cls, "exempt", {}).get(check.title)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)  # the batches are tiny
        check.function(check.subject)
    except NotApplicable as reason:
        return Outcome(check, "exempt", str(reason))
    except Exception as error:
        seen = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
        seen = " ".join(seen.split())
        return Outcome(check, "exempt", excuse) if excuse else Outcome(check, "failed", seen)
    finally:
        torch.set_num_threads(threads)
    if excuse:
        return Outcome(check, "failed", f"it holds; take it out of exempt ('{excuse}')")
    return Outcome(check, "ok")


def entry_can_be_shown(subject: Any) -> None:
    """Its name is lower-case-with-dashes, its summary one line, and every exemption names a check."""
    kind = next(kind for kind, module in _MODULES.items() if isinstance(subject, module.Subject))
    entry = registry.find(kind, subject.name).entry
    require(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", entry.name) is not None, f"its name is '{entry.name}'")
    require(bool(entry.summary.strip()) and "\n" not in entry.summary, "its summary is not one line")
    unknown = set(getattr(subject.cls, "exempt", {})) - set(vars(_MODULES[kind]))
    require(not unknown, f"exempt from {', '.join(sorted(unknown))}, which is no check")
