"""List installed plugins, their entries and their problems."""

from __future__ import annotations

from typing import Annotated

import typer


def plugins(json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """List installed plugins, their entries and their problems."""
    from dataclasses import asdict
    from json import dumps

    from uadtk import registry

    found = registry.plugins()
    entries = [
        (r.dist, f"{kind[:-1]} {r.entry.name}", r.entry.summary)
        for kind in registry.KINDS
        for r in registry.entries(kind)
    ]
    weights = [(about["dist"], f"weights {name}", about["licence"]) for name, about in registry.weights().items()]
    offers = {p.dist: [(name, text) for dist, name, text in (*entries, *weights) if dist == p.dist] for p in found}
    if json:
        print(dumps([{**asdict(p), "offers": [name for name, _ in offers[p.dist]]} for p in found], indent=2))
        return
    if not found:
        print("no plugins installed")
    for plugin in found:
        print(f"{plugin.dist} {plugin.version}" + (f"  problem: {plugin.problem}" if plugin.problem else ""))
        for name, text in offers[plugin.dist]:
            print(f"  {name}: {text}")
