"""Check that a model, scorer, thresholder or cleaner meets its contract."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from uadtk.registry import Kind

SLOW = 60  # seconds


def check(
    name: Annotated[str, typer.Argument(help="Its name, or dist/name where two plugins share one.")],
    kind: Annotated[
        Literal["model", "scorer", "thresholder", "cleaner"] | None,
        typer.Option(help="What it is; everything of that name if not given."),
    ] = None,
) -> None:
    """Check that a model, scorer, thresholder or cleaner meets its contract.

    Prints one line per check: ok with what holds, exempt with the reason, or FAILED with what was measured and what is
    required. The exit code is 1 if one failed. Models are trained for a few steps on synthetic slices; nothing is
    written.
    """
    from time import perf_counter

    from uadtk import registry
    from uadtk.testing import KINDS, run_check
    from uadtk.testing import checks as checks_of

    start = perf_counter()

    kinds = [k for k in KINDS if kind in (None, k[:-1])]
    failed = 0
    for found in _kinds_of(name, kinds):
        summary = registry.find(found, name).entry.summary
        print(f"{found[:-1]} {name}: {summary}", file=sys.stderr)
        for one in checks_of(found, name):
            outcome = run_check(one)
            failed += outcome.status == "failed"
            status = "FAILED" if outcome.status == "failed" else outcome.status
            print(f"{status:<7} {one.title}: {outcome.reason or one.sentence}", flush=True)
    seconds = perf_counter() - start
    if seconds > SLOW and "models" in kinds:
        print(f"took {seconds:.0f} s; declare `quick`, options to check a slow model with", file=sys.stderr)
    if failed:
        print(f"{failed} failed", file=sys.stderr)
        sys.exit(1)


def _kinds_of(name: str, kinds: list[Kind]) -> list[Kind]:
    """The kinds that have something of this name.

    Raises
    ------
    UsageError
        None has, or two plugins offer it.
    PluginError
        ``dist/name`` names a plugin that cannot be loaded.
    """
    from uadtk import registry
    from uadtk.core.errors import UsageError, did_you_mean

    everything = {k: registry.entries(k) for k in kinds}
    wanted = name.rpartition("/")[2]
    found = [k for k, offered in everything.items() if any(r.entry.name == wanted for r in offered)]
    if not found and "/" in name:
        registry.find(kinds[0], name)
    if not found:
        known = {r.entry.name for offered in everything.values() for r in offered}
        problems = registry.warnings()
        raise UsageError(f"nothing called '{name}'", fix=" ".join([did_you_mean(name, known), *problems]))
    return found
