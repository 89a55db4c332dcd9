"""Segment what is abnormal in one scan, many scans or a cohort."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from uadtk.cli._options import Cleaner, Device, Model, Overwrite, Scorer, Threads, make_run, open_method, say
from uadtk.core.errors import UadtkError, UsageError


def segment(
    scans: Annotated[list[Path], typer.Argument(help="Scans (NIfTI), a folder, a BIDS tree or a cohort.tsv.")],
    model: Model = "scalespace",
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")] = Path("uadtk-out"),
    point: Annotated[str | None, typer.Option(help="Operating point of the checkpoint.")] = None,
    brain_mask: Annotated[Path | None, typer.Option(help="Brain mask of the scan, on its grid.")] = None,
    min_voxels: Annotated[
        int | None,
        typer.Option(min=1, help="Smallest component kept, in voxels; else what the point was calibrated for, or 8."),
    ] = None,
    min_volume_ml: Annotated[float | None, typer.Option(min=0, help="Smallest component kept, in ml instead.")] = None,
    scorer: Scorer = None,
    cleaner: Cleaner = None,
    split: Annotated[str, typer.Option(help="Use only rows of this split.")] = "",
    device: Device = "auto",
    threads: Threads = 0,
    overwrite: Overwrite = False,
) -> None:
    """Segment what is abnormal in one scan, many scans or a cohort.

    Prints one line per scan: name, findings, millilitres, report. A scan that fails costs one line; the others are
    written, and the exit code is 1 (that of its error if it was the only one).
    """
    from dataclasses import replace

    from uadtk.io.cohort import output_names, read_cohort
    from uadtk.io.write import refuse_existing, write_text
    from uadtk.pipeline.point import check_point
    from uadtk.pipeline.score import build_method
    from uadtk.pipeline.segment import Rules, segment_cohort

    checkpoint = open_method(model, scorer, cleaner)
    chosen = checkpoint.point(point)
    cohort = read_cohort(scans[0] if len(scans) == 1 else scans)
    rows = list(cohort.split(split) if split else cohort)
    if brain_mask is not None and len(rows) > 1:
        raise UsageError(
            f"one mask for {len(rows)} scans", "--brain-mask", "Name masks in the cohort's brain_mask column."
        )
    if brain_mask is not None:
        rows = [replace(row, brain_mask=brain_mask) for row in rows]
    run = make_run(device, threads)
    method = build_method(checkpoint, run)
    check_point(method.checkpoint, chosen)
    summary = output / "summary.tsv"
    if len(rows) > 1:
        refuse_existing([summary], overwrite)
    named = list(zip(rows, output_names(rows), strict=True))
    failures: list[UadtkError] = []
    lines = ["name\tstatus\tfindings\tvolume_ml\treport_or_error"]
    print(lines[0])
    for outcome in segment_cohort(named, method, chosen, output, run, Rules(min_voxels, min_volume_ml), overwrite):
        if isinstance(outcome.result, UadtkError):
            failures.append(outcome.result)
            if len(rows) > 1:
                say(f"{outcome.name}: {outcome.result.one_line()}")
            lines.append(f"{outcome.name}\tfailed\t\t\t{outcome.result.one_line()}")
        else:
            findings = outcome.result.findings
            total_ml = sum(finding.volume_ml for finding in findings)
            report = output / f"{outcome.name}_report.html"
            lines.append(f"{outcome.name}\tdone\t{len(findings)}\t{total_ml:.3f}\t{report}")
        print(lines[-1], flush=True)
    if len(rows) > 1:
        write_text(summary, "\n".join(lines) + "\n")
    if failures and len(rows) == 1:
        raise failures[0]
    if failures:
        sys.exit(UadtkError.exit_code)
