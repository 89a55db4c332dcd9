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
    offers = {
        p.dist: [(k, r.entry) for k in registry.KINDS for r in registry.entries(k) if r.dist == p.dist] for p in found
    }
    if json:
        print(
            dumps([{**asdict(p), "offers": [f"{k[:-1]} {e.name}" for k, e in offers[p.dist]]} for p in found], indent=2)
        )
        return
    if not found:
        print("no plugins installed")
    for plugin in found:
        print(f"{plugin.dist} {plugin.version}" + (f"  problem: {plugin.problem}" if plugin.problem else ""))
        for kind, entry in offers[plugin.dist]:
            print(f"  {kind[:-1]} {entry.name}: {entry.summary}")
