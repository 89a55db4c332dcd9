"""Show the contents of a checkpoint, or the gate's findings about a scan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uadtk.builtin import DEFAULT_MODEL
from uadtk.cli._options import Model

if TYPE_CHECKING:
    from uadtk.core.thresholder import OperatingPoint


def inspect(
    what: Annotated[str, typer.Argument(help="A shipped model by name, a checkpoint (.safetensors), or a scan.")],
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    model: Model = DEFAULT_MODEL,
    brain_mask: Annotated[Path | None, typer.Option(help="Brain mask of a scan, on its grid.")] = None,
) -> None:
    """Show the contents of a checkpoint, or the gate's findings about a scan.

    Of a checkpoint: model, options, preparation, training and operating points. Of a scan: whether --model can read it
    (green, amber or red), the reasons, and every number that was measured. Nothing is segmented.

    \b
    Examples:
      uadtk inspect implant
      uadtk inspect scan.nii.gz
    """
    if _is_scan(what):
        _inspect_scan(Path(what), model, brain_mask, json)
    else:
        _inspect_checkpoint(what, json)


def _is_scan(what: str) -> bool:
    """A path that exists and is no safetensors file, or a name that only an image has."""
    path = Path(what)
    if what.endswith(".safetensors"):
        return False
    if path.is_file():
        with path.open("rb") as file:
            return file.read(9)[8:] != b"{"
    return path.is_dir() or path.name.lower().endswith((".nii", ".nii.gz"))


def _inspect_scan(path: Path, model: str, brain_mask: Path | None, json: bool) -> None:
    from json import dumps

    from uadtk.checkpoint import open_checkpoint
    from uadtk.io.cohort import Row
    from uadtk.pipeline.admit import inspect_file
    from uadtk.pipeline.run import make_run

    source, gate = inspect_file(Row("", path, brain_mask), open_checkpoint(model), make_run())
    if json:
        print(dumps({"path": str(path), "brain": source, "model": model, **gate.to_json()}, indent=2))
        return
    print(f"{gate.light:<12} {path}, for {model}")
    for reason in gate.reasons:
        print(f"{reason.light:<12} {reason.check}: {reason.what} (limit: {reason.limit})")
    print(f"brain        {source or 'not looked for: the file alone says no'}")
    print("".join(f"{name:<12} {value:.4g}\n" for name, value in gate.measured.items()), end="")


def _inspect_checkpoint(checkpoint: str, json: bool) -> None:
    from json import dumps

    from uadtk import registry
    from uadtk.checkpoint import STATISTICS, open_checkpoint

    found = open_checkpoint(checkpoint)
    header = {**found.header(), "digest": found.digest}
    if json:
        print(dumps(header, indent=2, sort_keys=True))
        return
    print(f"model        {found.model} ({found.dist} {found.version})")
    if about := registry.weights().get(checkpoint):
        print(f"card         {about['card']}\nlicence      {about['licence']}")
    for title, values in (
        ("options", found.options),
        ("preparation", header["preparation"]),
        ("training", {key: value for key, value in found.training.items() if key != STATISTICS}),
    ):
        print(f"{title:<12} " + ("\n             ".join(f"{key} = {value}" for key, value in values.items()) or "none"))
    statistics = found.training.get(STATISTICS, {})
    for name, values in statistics.get("numbers", {}).items():
        print(f"scans        {name}: {' '.join(f'{value:.4g}' for value in values)}  (min, q10, median, q90, max)")
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
        **({"components": f"{point.smallest} or more"} if point.smallest else {}),
        "date": point.date,
        "made for": " ".join(map(str, (point.scorer, *point.cleaners))),
        **{name: f"{value:.4g}" for name, value in point.measured.items()},
    }
