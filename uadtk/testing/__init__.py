"""The contract kit: small named checks that every model, scorer, thresholder and cleaner must pass.

On the command line ``uadtk check NAME``; in a plugin's tests::

    import pytest
    from uadtk.testing import checks, run_check

    @pytest.mark.parametrize("check", checks("models", "vqvae"), ids=str)
    def test_contract(check):
        outcome = run_check(check)
        assert outcome.status != "failed", outcome.reason

A class that cannot pass a check declares so, with the reason: ``exempt = {"loss_falls": "..."}``. It must then fail
that check: an exemption that is no longer needed is itself a failure. uadtk's own tests run this kit on everything that
uadtk registers.
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
from uadtk.testing.contract import Check, Failed, NotApplicable, Outcome, described, require
from uadtk.testing.installed import installed
from uadtk.testing.names import near_misses, wrong_sorts

__all__ = ["KINDS", "Check", "Outcome", "checks", "installed", "run_check"]

_MODULES: dict[registry.Kind, ModuleType] = {
    "models": checks_models,
    "scorers": checks_scorers,
    "thresholders": checks_thresholders,
    "cleaners": checks_cleaners,
}
KINDS = tuple(_MODULES)


def checks(kind: registry.Kind, name: str) -> list[Check]:
    """Every check of one kind, for the subject of that name.

    Raises
    ------
    UsageError
        Nothing of that name, or a kind without a contract.
    PluginError
        It cannot be loaded.
    """
    if kind not in _MODULES:
        raise UsageError(f"no contract for '{kind}'", fix=did_you_mean(kind, KINDS))
    module = _MODULES[kind]
    subject = module.Subject(name)
    functions: list[Any] = [entry_can_be_shown, declares_known_names]
    functions += [f for f in vars(module).values() if inspect.isfunction(f) and f.__module__ == module.__name__]
    public = [f for f in functions if not f.__name__.startswith("_")]
    return [Check(kind, name, f.__name__, inspect.getdoc(f) or "", f, subject) for f in public]


def run_check(check: Check) -> Outcome:
    """Run it; never raises, whatever the code under test does."""
    excuse = check.subject.exempt.get(check.title)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)  # the batches are tiny
        check.function(check.subject)
    except NotApplicable as reason:
        return Outcome(check, "exempt", str(reason))
    except Exception as error:
        seen = str(error) if isinstance(error, Failed) else described(error, check.subject.cls)
        return Outcome(check, "exempt", excuse) if excuse else Outcome(check, "failed", seen)
    finally:
        torch.set_num_threads(threads)
    if excuse:
        return Outcome(check, "failed", f"it passes, and must not be exempt: remove '{check.title}' from `exempt`")
    return Outcome(check, "ok")


def entry_can_be_shown(subject: Any) -> None:
    """Its name is lower-case-with-dashes, its summary one line, and every exemption names a check."""
    kind = _kind(subject)
    entry = registry.find(kind, subject.name).entry
    require(
        re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", entry.name) is not None,
        f"its name is '{entry.name}'; lower-case-with-dashes is required: rename it in Entry(name, ...)",
    )
    lines = len(entry.summary.strip().splitlines())
    require(lines == 1, f"its summary has {lines} lines, 1 required: Entry(name, target, summary)")
    titles = {check.title for check in checks(kind, subject.name)}
    for unknown in sorted(set(subject.exempt) - titles):
        require(False, f"exempt names '{unknown}', which is not a check. {did_you_mean(unknown, titles)}")


def declares_known_names(subject: Any) -> None:
    """No public attribute misspells a name of the contract; those of the contract have values of the right sort."""
    kind, instance = _kind(subject), subject.instance
    for name, right in near_misses(kind, instance).items():
        require(False, f"it defines '{name}', which uadtk does not read. Did you mean '{right}'? If not, rename it")
    for name, (value, sort) in wrong_sorts(kind, instance).items():
        require(False, f"{name} is {value!r}; {sort} is required")


def _kind(subject: Any) -> registry.Kind:
    return next(kind for kind, module in _MODULES.items() if isinstance(subject, module.Subject))
