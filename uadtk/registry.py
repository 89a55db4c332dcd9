"""Find models, scorers, thresholders, cleaners, loggers and commands by name, built-in and from installed plugins.

Built-in names are looked up first, without scanning the installed packages. A plugin that cannot be imported causes one
warning line, and an error only if it is requested by name. ``UADTK_PLUGINS=""`` switches third-party plugins off,
``UADTK_PLUGINS=a,b`` allows only those distributions; ``UADTK_TRACE=1`` prints every call of a plugin's hook to stderr.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import pluggy

from uadtk import builtin, hookspecs
from uadtk.core import options as opts
from uadtk.core import schema
from uadtk.core.entry import API_VERSION, Entry
from uadtk.core.errors import PluginError, UsageError, did_you_mean
from uadtk.core.spec import Spec
from uadtk.core.text import shown
from uadtk.version import VERSION

Kind = Literal["models", "scorers", "thresholders", "cleaners", "loggers", "commands"]
KINDS: tuple[Kind, ...] = ("models", "scorers", "thresholders", "cleaners", "loggers", "commands")
OWN = "uadtk"
_FAULTS = (Exception, SystemExit)  # of a plugin: one that calls sys.exit must not end a run as if it had succeeded
_NAME = re.compile(r"[\w.-]{1,100}")
_INDEX = schema.record(
    {"models": schema.mapping(schema.record(dict.fromkeys(("file", "digest", "card", "licence"), schema.text(200))))}
)


@dataclass(frozen=True)
class Registered:
    """An entry and the distribution it comes from."""

    entry: Entry
    dist: str
    version: str


@dataclass(frozen=True)
class Plugin:
    """An installed plugin; ``problem``: one line on why it, or a part of it, cannot be used."""

    dist: str
    version: str
    target: str
    problem: str = ""

    @property
    def id(self) -> str:
        return f"{self.dist}:{self.target}"

    def __str__(self) -> str:
        return f"{self.dist} {self.version}"


def find(kind: Kind, name: str) -> Registered:
    """The entry called ``name`` (or ``dist/name``).

    Raises
    ------
    UsageError
        No such name (with a suggestion), or two plugins provide it.
    PluginError
        ``dist/name`` names a plugin that cannot be loaded.
    """
    dist, _, short = name.rpartition("/")
    if dist in ("", OWN) and (mine := own(kind).get(short)):
        return mine
    found = [r for r in entries(kind) if r.entry.name == short and dist in ("", r.dist)]
    if len(found) == 1:
        return found[0]
    if found:
        owners = " and ".join(sorted(r.dist for r in found))
        raise UsageError(f"provided by two plugins: {owners}", name, f"Name one: {found[0].dist}/{short}.")
    for plugin in plugins():
        if plugin.problem and plugin.dist == dist:
            raise PluginError(plugin.problem, str(plugin), "Reinstall or update the plugin.")
    suggestion = did_you_mean(name, (r.entry.name for r in entries(kind)))
    raise UsageError(f"no {kind[:-1]} '{name}'", fix=" ".join([suggestion, *warnings()]))


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
    except _FAULTS as error:
        where = f"{registered.dist} {registered.version}, {kind[:-1]} '{name}'"
        raise PluginError(f"cannot be loaded ({_cause(error)})", where, "Reinstall the plugin.") from error


def build(kind: Kind, spec: Spec) -> Any:
    """The scorer, cleaner or thresholder that ``spec`` describes.

    Raises
    ------
    UsageError, PluginError
        As :func:`load`; or not such an option, or not a valid value of it.
    """
    return load(kind, spec.name)(options_of(kind, spec))


def options_of(kind: Kind, spec: Spec) -> Any:
    """The options of ``spec``, checked, with defaults filled in: two specs that mean the same have equal ones."""
    return opts.build(load(kind, spec.name).Options, spec.values, spec.name)


def entries(kind: Kind) -> list[Registered]:
    """All entries of a kind: ours by name, then the plugins' by name."""
    third_party = [r for plugin in _installed()[1] if not plugin.problem for r in _offers(plugin, kind)[0]]
    return [*own(kind).values(), *sorted(third_party, key=lambda r: (r.entry.name, r.dist))]


def weights() -> dict[str, dict[str, str]]:
    """Checkpoints by name, ours first: paths of ``file`` and ``card``, ``digest``, ``licence``, ``dist``."""
    found = own_weights()
    for plugin in _installed()[1]:
        if not plugin.problem:
            found = {**found, **{name: about for name, about in _weights(plugin)[0].items() if name not in found}}
    return found


def plugins() -> list[Plugin]:
    """Installed third-party plugins, the broken ones with their problem."""
    return [p if p.problem else replace(p, problem="; ".join(_partial_problems(p))) for p in _installed()[1]]


def warnings() -> list[str]:
    """One line per problem with a plugin."""
    there = {_normal(p.dist) for p in _installed()[1]}
    missing = sorted((_chosen() or set()) - there)
    return [
        *(f"plugin {p}: {p.problem}" for p in plugins() if p.problem),
        *(f"plugin {name}: named in UADTK_PLUGINS, but not installed" for name in missing),
    ]


def hooks() -> Any:
    """The hooks of every usable plugin, for readers: ``hooks().uadtk_read(path=...)``."""
    return _installed()[0].hook


def readers() -> dict[str, str]:
    """The usable plugins that read images of other formats, by name, with their versions."""
    manager, found = _installed()
    ids = {hook.plugin_name for hook in manager.hook.uadtk_read.get_hookimpls()}
    return {plugin.dist: plugin.version for plugin in found if plugin.id in ids}


def notify(
    hook: str, say: Callable[[str], None], loggers: Mapping[str, Callable[..., object]] | None = None, **event: Any
) -> None:
    """Call every observer, and ``loggers`` by name.

    One that fails causes a warning line and does not affect the result or other observers.
    """
    manager, found = _installed()
    observers: dict[str, Callable[..., object]] = {
        f"plugin {plugin}: {hook}": partial(_call, manager, plugin, hook) for plugin in found
    }
    observers |= {f"logger {name}": logger for name, logger in (loggers or {}).items()}
    for name, observer in observers.items():
        try:
            observer(**event)
        except _FAULTS as error:
            say(f"warning: {name} failed ({_cause(error)})")


@contextmanager
def staying() -> Iterator[None]:
    """A plugin that calls sys.exit in the block has failed: raises PluginError, or a run would end as a success."""
    try:
        yield
    except SystemExit as error:
        what = f"a plugin called sys.exit({error.code!r})"
        raise PluginError(what, fix="Report it to the author of the plugin.") from error


def reload() -> None:
    """Clear the cache; for tests and for sessions that install plugins while running."""
    for cached in (own, _installed):
        cached.cache_clear()


@cache
def own(kind: Kind) -> dict[str, Registered]:
    offer = getattr(builtin, f"uadtk_{kind}", list)
    return {entry.name: Registered(entry, OWN, VERSION) for entry in offer()}


@cache
def own_weights() -> dict[str, dict[str, str]]:
    return _listed(Path(__file__).parent / "weights", OWN)


@cache
def _installed() -> tuple[pluggy.PluginManager, tuple[Plugin, ...]]:
    """All enabled entry points of the group; usable ones are registered with the manager."""
    manager = pluggy.PluginManager("uadtk")
    manager.add_hookspecs(hookspecs)
    if os.environ.get("UADTK_TRACE") == "1":
        manager.trace.root.setwriter(lambda text: print(text, end="", file=sys.stderr))
        manager.enable_tracing()
    chosen = _chosen()
    found = []
    points = [] if chosen == set() else metadata.entry_points(group="uadtk")
    for plugin, point in sorted(((_plugin(point), point) for point in points), key=lambda pair: pair[0].id):
        if chosen is not None and _normal(plugin.dist) not in chosen:
            continue
        try:
            manager.register(importlib.import_module(point.module), plugin.id)
        except _FAULTS as error:
            manager.unregister(name=plugin.id)  # it may be partly registered
            plugin = replace(plugin, problem=f"cannot be loaded ({_cause(error)})")
        found.append(plugin)
    return manager, tuple(found)


def _plugin(point: metadata.EntryPoint) -> Plugin:
    """A plugin from its entry point; an incompletely removed distribution has neither name nor version."""
    try:
        name, version = (point.dist.name, point.dist.version) if point.dist else ("", "")
    except FileNotFoundError:  # by the backport importlib_metadata, which replaces the finder if installed
        name, version = "", ""
    return Plugin(name or "unknown", version or "?", point.value)


def _chosen() -> set[str] | None:
    """The distributions that ``UADTK_PLUGINS`` names; None if it is not set."""
    names = os.environ.get("UADTK_PLUGINS")
    return None if names is None else {_normal(name) for name in names.split(",") if name.strip()}


def _normal(dist: str) -> str:
    """``Uadtk_PCA`` and ``uadtk-pca`` are one distribution (PEP 503)."""
    return re.sub(r"[-_.]+", "-", dist.strip()).lower()


def _call(manager: pluggy.PluginManager, plugin: Plugin, hook: str, **event: Any) -> list[Any]:
    """Call the hook of a single plugin."""
    others = [module for name, module in manager.list_name_plugin() if name != plugin.id]
    results: list[Any] = manager.subset_hook_caller(hook, others)(**event)
    return results


def _offers(plugin: Plugin, kind: Kind) -> tuple[list[Registered], list[str]]:
    """A plugin's valid entries of a kind, and the problems of the others."""
    good, bad = [], []
    try:
        offered = [entry for part in _call(_installed()[0], plugin, f"uadtk_{kind}") for entry in part]
    except _FAULTS as error:
        return [], [f"uadtk_{kind} failed ({_cause(error)})"]
    for entry in offered:
        if not isinstance(entry, Entry):
            bad.append(f"uadtk_{kind} returned {entry!r}, which is not an Entry")
        elif not (isinstance(entry.name, str) and _NAME.fullmatch(entry.name) and isinstance(entry.summary, str)):
            bad.append(f"uadtk_{kind}: {shown(repr(entry.name)[:80])} is no name of letters, digits, - and _")
        elif not isinstance(entry.api, int) or entry.api > API_VERSION:
            bad.append(f"'{entry.name}' needs a newer uadtk (api {entry.api}, this is {API_VERSION})")
        else:
            summary = shown(" ".join(entry.summary.split())[:500])
            good.append(Registered(replace(entry, summary=summary), plugin.dist, plugin.version))
    return good, bad


def _weights(plugin: Plugin) -> tuple[dict[str, dict[str, str]], list[str]]:
    """A plugin's checkpoints, and the problems of folders that have no valid index."""
    good, bad = dict[str, dict[str, str]](), list[str]()
    try:
        folders = [Path(folder) for part in _call(_installed()[0], plugin, "uadtk_weights") for folder in part]
    except _FAULTS as error:
        return {}, [f"uadtk_weights failed ({_cause(error)})"]
    for folder in folders:
        try:
            listed = _listed(folder, plugin.dist)
        except (OSError, ValueError) as error:
            bad.append(f"no list of weights in {shown(str(folder))} ({_cause(error)})")
            continue
        bad += [f"uadtk_weights: {shown(repr(name)[:80])} is no name" for name in listed if not _NAME.fullmatch(name)]
        good |= {name: about for name, about in listed.items() if _NAME.fullmatch(name)}
    return good, bad


def _listed(folder: Path, dist: str) -> dict[str, dict[str, str]]:
    """What ``index.json`` says, with paths in place of names of files. Raises OSError or ValueError."""
    index = schema.parse_json((folder / "index.json").read_text(encoding="utf-8"))
    _INDEX(index, "index.json")
    return {
        name: {
            **{key: shown(text) for key, text in about.items()},
            **{key: str(folder / about[key]) for key in ("file", "card")},
            "dist": dist,
        }
        for name, about in index["models"].items()
    }


def _partial_problems(plugin: Plugin) -> list[str]:
    """Problems of a plugin that could be loaded: invalid entries and unknown hooks."""
    module = _installed()[0].get_plugin(plugin.id)
    known = {name for name in vars(hookspecs) if name.startswith("uadtk_")}
    marked = {name for name, value in vars(module).items() if hasattr(value, "uadtk_impl")}
    return [
        *(problem for kind in KINDS for problem in _offers(plugin, kind)[1]),
        *_weights(plugin)[1],
        *(f"unknown hook '{name}'. {did_you_mean(name, known)}" for name in sorted(marked - known)),
        *(f"'{name}' lacks @hookimpl" for name in sorted(known & set(vars(module)) - marked)),
    ]


def _cause(error: BaseException) -> str:
    """An exception on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
