"""List the models that can be trained or used, ours and the plugins'."""

from __future__ import annotations

from typing import Annotated

import typer


def models(json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """List the models that can be trained or used, ours and the plugins'."""
    from json import dumps

    from uadtk import registry

    weights = {name: about["dist"] for name, about in registry.weights().items()}
    rows = [
        {
            "name": r.entry.name,
            "from": f"{r.dist} {r.version}",
            "weights": _weights(weights.get(r.entry.name, "")),
            "summary": r.entry.summary,
        }
        for r in registry.entries("models")
    ]
    if json:
        print(dumps(rows, indent=2))
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        notes = [note for note in (row["weights"], "" if row["from"].startswith("uadtk ") else row["from"]) if note]
        print(f"{row['name']:<{width}}  {row['summary']}{' [' + ', '.join(notes) + ']' if notes else ''}")


def _weights(dist: str) -> str:
    return f"weights of {dist}" if dist not in ("", "uadtk") else "shipped" if dist else ""
