"""Compare two scans of one person: which findings are new, gone, grown, shrunk or the same."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uadtk.builtin import DEFAULT_MODEL
from uadtk.cli._options import Device, Overwrite, Threads, Trust


def compare(
    before: Annotated[Path, typer.Argument(help="The first scan, or its result: a folder of uadtk segment, a mask.")],
    after: Annotated[Path, typer.Argument(help="The second scan of the same person, or its result.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")] = Path("uadtk-compare"),
    model: Annotated[
        str | None,
        typer.Option(help=f"A shipped model by name, or a checkpoint (.safetensors); default: {DEFAULT_MODEL}."),
    ] = None,
    point: Annotated[str | None, typer.Option(help="Operating point of the checkpoint.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Compare even what looks like two heads, or is no scan to read (red).")
    ] = False,
    device: Device = "auto",
    threads: Threads = 0,
    trust: Trust = None,
    overwrite: Overwrite = False,
    json: Annotated[bool, typer.Option("--json", help="Print compare.json, not a table.")] = False,
) -> None:
    """Compare two scans of one person: which findings are new, gone, grown, shrunk or the same.

    Writes compare.html to look at, compare.tsv (a line per change) and compare.json. Scans are segmented first, as by
    uadtk segment, into the folders before and after. The two are aligned rigidly, and findings are matched through that
    transform; no mask is resampled. Same is what changes by no more than it does in a repeated scan. What lies outside
    the other scan's field of view or brain mask is not covered, rather than new or gone.

    Scans that do not agree after alignment, of two people or of two sequences, are refused unless --force is given.

    \b
    Examples:
      uadtk compare before.nii.gz after.nii.gz -o followup/
      uadtk compare out-2024/ out-2025/ -o followup/
    """
    import uadtk
    from uadtk.core.text import shown

    found = uadtk.compare(
        before, after, output, model, point, force, overwrite, device=device, threads=threads, trust=trust
    )
    if json:
        print((output / "compare.json").read_text(encoding="utf-8"), end="")
        return
    print(found)
    print(f"page  {shown(str(output / 'compare.html'))}")
