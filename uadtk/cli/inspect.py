"""Show the contents of a checkpoint: model, options, training and operating points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from uadtk.core.thresholder import OperatingPoint


def inspect(
    checkpoint: Annotated[str, typer.Argument(help="A shipped model by name, or a checkpoint (.safetensors).")],
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show the contents of a checkpoint: model, options, training and operating points."""
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
    print(f"cleaners     {', '.join(map(str, found.cleaners)) or 'none'}")
    print(f"weights      {len(found.weights) / 1e6:.2f} MB, digest {found.digest[:16]}")
    for point in found.points:
        print(f"point        {point.name}: score > {point.threshold:.6g}")
        print("".join(f"             {name} = {value}\n" for name, value in _facts(point).items()), end="")


def _facts(point: OperatingPoint) -> dict[str, str]:
    return {
        "strategy": str(point.strategy),
        "target": point.target,
        "interval": "[{:.6g}, {:.6g}]".format(*point.interval) if point.interval else "none",
        "scans": f"{point.scans}, digest {point.digest[:16]}",
        **({"components": f"{point.min_voxels} voxels or more"} if point.min_voxels else {}),
        "date": point.date,
        "made for": " ".join(map(str, (point.scorer, *point.cleaners))),
        **{name: f"{value:.4g}" for name, value in point.measured.items()},
    }
