"""Segment anomalies in one scan, several scans or a cohort."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from uadtk.cli._options import Cleaner, Device, Model, Overwrite, Scorer, Threads, Trust, chosen_cleaners
from uadtk.core.errors import UadtkError, UsageError
from uadtk.core.text import shown


def segment(
    scans: Annotated[
        list[Path], typer.Argument(help="Scans (NIfTI, DICOM, ...), a folder, a BIDS tree or a cohort.tsv.")
    ],
    model: Model = "scalespace",
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")] = Path("uadtk-out"),
    point: Annotated[str | None, typer.Option(help="Operating point of the checkpoint.")] = None,
    brain_mask: Annotated[Path | None, typer.Option(help="Brain mask of the scan, on its grid.")] = None,
    min_voxels: Annotated[
        int | None,
        typer.Option(min=1, help="Smallest component to keep, in voxels; default: that of the calibration, or 8."),
    ] = None,
    min_volume_ml: Annotated[float | None, typer.Option(min=0, help="The same in ml.")] = None,
    scorer: Scorer = None,
    cleaner: Cleaner = None,
    split: Annotated[str, typer.Option(help="Use only rows of this split.")] = "",
    device: Device = "auto",
    threads: Threads = 0,
    trust: Trust = None,
    overwrite: Overwrite = False,
) -> None:
    """Segment anomalies in one scan, several scans or a cohort.

    Prints one line per scan: name, findings, millilitres, report. A scan that fails costs one line; the others are
    written, and the exit code is 1 (that of its error if it was the only one).
    """
    from dataclasses import replace

    from uadtk import interface
    from uadtk.io.cohort import Cohort
    from uadtk.io.write import refuse_existing, write_text

    opened = interface.open(model, scorer, chosen_cleaners(cleaner), device, threads, trust=trust)
    cohort = interface.chosen_rows(scans, split, opened.run)
    if brain_mask is not None:
        if len(cohort) > 1:
            what, fix = f"one mask for {len(cohort)} scans", "Name masks in the cohort's brain_mask column."
            raise UsageError(what, "--brain-mask", fix)
        cohort = Cohort(tuple(replace(row, brain_mask=brain_mask) for row in cohort), cohort.source)
    summary = output / "summary.tsv"
    if len(cohort) > 1:
        refuse_existing([summary], overwrite)
    lines = ["name\tstatus\tfindings\tvolume_ml\treport_or_error"]
    failed = False
    print(lines[0])
    for name, outcome in opened.segment_cohort(cohort, output, point, "", min_voxels, min_volume_ml, overwrite):
        if outcome.error is not None:
            failed = True
            lines.append(f"{name}\tfailed\t\t\t{outcome.error.one_line()}")
        else:
            findings = outcome.result.findings
            total_ml = sum(finding.volume_ml for finding in findings)
            lines.append(f"{name}\tdone\t{len(findings)}\t{total_ml:.3f}\t{shown(str(output / f'{name}_report.html'))}")
        print(lines[-1], flush=True)
    if len(cohort) > 1:
        write_text(summary, "\n".join(lines) + "\n")
    if failed:
        sys.exit(UadtkError.exit_code)
