"""Finds models, scorers, thresholders, cleaners and commands by name, ours and those of installed plugins.

Built-in names are looked up first and cost no scan of the installed packages. A plugin that cannot be imported costs one
warning line; it is an error only for who asked for it. ``UADTK_PLUGINS=""`` switches third-party plugins off,
``UADTK_PLUGINS=a,b`` takes only those distributions; ``UADTK_TRACE=1`` prints every hook call to stderr.
"""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any, Literal

import pluggy

import uadtk
from uadtk import builtin, hookspecs
from uadtk.core.entry import API_VERSION, Entry
from uadtk.core.errors import PluginError, UsageError, did_you_mean

Kind = Literal["models", "scorers", "thresholders", "cleaners", "commands"]
KINDS: tuple[Kind, ...] = ("models", "scorers", "thresholders", "cleaners", "commands")
OWN = "uadtk"


@dataclass(frozen=True)
class Registered:
    """An entry and the distribution it comes from."""

    entry: Entry
    dist: str
    version: str


@dataclass(frozen=True)
class Plugin:
    """An installed plugin; ``problem`` says in one line why it, or a part of it, cannot be used."""

    dist: str
    version: str
    target: str
    problem: str = ""


def find(kind: Kind, name: str) -> Registered:
    """The entry called ``name`` (or ``dist/name``).

    Raises
    ------
    UsageError
        Nobody offers that name (with a suggestion), or two plugins do.
    PluginError
        ``dist/name`` names a plugin that cannot be loaded.
    """
    dist, _, short = name.rpartition("/")
    if not dist and (own := _own(kind).get(short)):
        return own
    found = [r for r in entries(kind) if r.entry.name == short and dist in ("", r.dist)]
    if len(found) == 1:
        return found[0]
    if found:
        owners = " and ".join(sorted(r.dist for r in found))
        raise UsageError(f"two plugins offer it: {owners}", name, f"Name one: {found[0].dist}/{short}.")
    for plugin in plugins():
        if plugin.problem and plugin.dist == dist:
            raise PluginError(plugin.problem, f"{plugin.dist} {plugin.version}", "Reinstall or update the plugin.")
    raise UsageError(f"no {kind[:-1]} '{name}'", fix=did_you_mean(name, (r.entry.name for r in entries(kind))))


def load(kind: Kind, name: str) -> Any:
    """The class or function behind a name.

    Raises
    ------
    PluginError
        Its module cannot be imported, or has no such attribute.
    """
    registered = find(kind, name)
    module, _, attribute = registered.entry.target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:
        where = f"{registered.dist} {registered.version}, {kind[:-1]} '{name}'"
        raise PluginError(
            f"cannot be loaded ({type(error).__name__}: {error})", where, "Reinstall the plugin."
        ) from error


def entries(kind: Kind) -> list[Registered]:
    """All entries of a kind: ours by name, then the plugins' by name."""
    third_party = [r for _, plugin in _third_party() if not plugin.problem for r in _offers(_, plugin, kind)[0]]
    return [*_own(kind).values(), *sorted(third_party, key=lambda r: (r.entry.name, r.dist))]


def plugins() -> list[Plugin]:
    """Installed third-party plugins, the broken ones with their problem."""
    found = []
    for module, plugin in _third_party():
        problems = [plugin.problem] if plugin.problem else []
        if module is not None:
            problems += [p for kind in KINDS for p in _offers(module, plugin, kind)[1]] + _unknown_hooks(module)
        found.append(Plugin(plugin.dist, plugin.version, plugin.target, "; ".join(problems)))
    return found


def warnings() -> list[str]:
    """One line per plugin problem."""
    return [f"plugin {p.dist} {p.version}: {p.problem}" for p in plugins() if p.problem]


@cache
def hooks() -> Any:
    """The hooks of every usable plugin, for readers and observers: ``hooks().uadtk_scan_done(segmentation=...)``."""
    manager = pluggy.PluginManager("uadtk")
    manager.add_hookspecs(hookspecs)
    manager.register(builtin)
    for module, plugin in _third_party():
        if module is not None:
            manager.register(module, name=plugin.dist + ":" + plugin.target)
    if os.environ.get("UADTK_TRACE") == "1":
        manager.trace.root.setwriter(sys.stderr.write)
        manager.enable_tracing()
    return manager.hook


def reload() -> None:
    """Forget what was found; for tests and for sessions that install plugins while running."""
    for cached in (_own, _third_party, hooks):
        cached.cache_clear()


@cache
def _own(kind: Kind) -> dict[str, Registered]:
    offer = getattr(builtin, f"uadtk_{kind}", list)
    return {entry.name: Registered(entry, OWN, uadtk.__version__) for entry in offer()}


@cache
def _third_party() -> list[tuple[Any, Plugin]]:
    """(module or None, plugin) for every entry point of the group that is not switched off."""
    chosen = os.environ.get("UADTK_PLUGINS")
    found = []
    for point in sorted(metadata.entry_points(group="uadtk"), key=lambda p: (p.dist.name if p.dist else "", p.name)):
        dist, version = (point.dist.name, point.dist.version) if point.dist else ("unknown", "?")
        if chosen is not None and dist not in chosen.split(","):
            continue
        try:
            module, problem = importlib.import_module(point.module), ""
        except Exception as error:
            module, problem = None, f"cannot be imported ({type(error).__name__}: {error})"
        found.append((module, Plugin(dist, version, point.value, problem)))
    return found


def _offers(module: Any, plugin: Plugin, kind: Kind) -> tuple[list[Registered], list[str]]:
    """What a plugin offers of a kind, and what is wrong with the rest."""
    offer = getattr(module, f"uadtk_{kind}", None)
    if offer is None:
        return [], []
    try:
        all_entries = list(offer())
    except Exception as error:
        return [], [f"uadtk_{kind} fails ({type(error).__name__}: {error})"]
    good = [Registered(e, plugin.dist, plugin.version) for e in all_entries if e.api <= API_VERSION]
    bad = [
        f"'{e.name}' needs a newer uadtk (api {e.api}, this is {API_VERSION})"
        for e in all_entries
        if e.api > API_VERSION
    ]
    return good, bad


def _unknown_hooks(module: Any) -> list[str]:
    known = {name for name in vars(hookspecs) if name.startswith("uadtk_")}
    mine = {name for name, value in vars(module).items() if name.startswith("uadtk_") and hasattr(value, "uadtk_impl")}
    return [f"unknown hook '{name}'. {did_you_mean(name, known)}" for name in sorted(mine - known)]
