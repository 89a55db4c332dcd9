"""Show what is in a checkpoint: model, options, training and operating points."""

from __future__ import annotations

from typing import Annotated

import typer


def inspect(
    checkpoint: Annotated[str, typer.Argument(help="A shipped model by name, or a checkpoint (.safetensors).")],
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show what is in a checkpoint: model, options, training and operating points."""
    from json import dumps

    from uadtk.checkpoint import open_checkpoint

    found = open_checkpoint(checkpoint)
    header = {**found.header(), "digest": found.digest}
    if json:
        print(dumps(header, indent=2, sort_keys=True))
        return
    print(f"model        {found.model} ({found.dist} {found.version})")
    for title, values in (
        ("options", found.options),
        ("preparation", header["preparation"]),
        ("training", found.training),
    ):
        print(f"{title:<12} " + ("\n             ".join(f"{key} = {value}" for key, value in values.items()) or "none"))
    print(f"scorer       {found.scorer}")
    print(f"cleaners     {', '.join(found.cleaners) or 'none'}")
    print(f"weights      {len(found.weights) / 1e6:.2f} MB, digest {found.digest[:16]}")
    for p in found.points:
        interval = f" [{p.interval[0]:.4g}, {p.interval[1]:.4g}]" if p.interval else ""
        print(
            f"point        {p.name}: score > {p.threshold:.6g}{interval}; {p.strategy}; "
            f"{p.target}; {p.scans} scans; {p.date}"
        )
