"""Compare two scans of one person: which findings are new, gone, grown, shrunk or the same."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uadtk.cli._options import DEFAULT_MODEL, Device, Overwrite, Threads, Trust
from uadtk.core.errors import UsageError


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
    """
    from uadtk import interface
    from uadtk.core.text import shown
    from uadtk.io.cohort import Cohort, refuse_copies
    from uadtk.pipeline import compare as pipeline
    from uadtk.pipeline.run import make_run
    from uadtk.preparation.registration import simpleitk
    from uadtk.report.change import as_text

    simpleitk()
    pipeline.refuse_outputs(output, overwrite)
    run = make_run(device, threads, trust=trust)
    states = [pipeline.result_at(path) for path in (before, after)]
    if None not in states and (model or point):
        raise UsageError("both scans are segmented already", "--model, --point", "Leave them out, or name the scans.")
    cohorts = {
        n: pipeline.only_row(interface.chosen_rows([path], "", run), path)
        for n, path in enumerate((before, after))
        if states[n] is None
    }
    if cohorts:
        refuse_copies(Cohort(tuple(cohorts.values()), f"{before}, {after}"))
        opened = interface.open(model or DEFAULT_MODEL, device=device, threads=threads, trust=trust)
        for state in filter(None, states):
            pipeline.refuse_other(state, opened.checkpoint.digest)
        for n, row in cohorts.items():
            one = Cohort((row,), str(row.image))
            done = opened.segment_cohort(one, output / ("before", "after")[n], point, overwrite=overwrite, force=force)
            states[n] = next(done)[1].value
    first, second = (pipeline.exam_of(state) for state in states if state)
    found = pipeline.compare(first, second, run, force)
    pipeline.write_follow_up(found, output, overwrite)
    if json:
        print((output / "compare.json").read_text(encoding="utf-8"), end="")
        return
    print(as_text(found))
    print(f"page  {shown(str(output / 'compare.html'))}")
