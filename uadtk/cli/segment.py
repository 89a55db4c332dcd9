"""Segment anomalies in one scan, several scans or a cohort."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from uadtk.cli._options import Cleaner, Device, Model, Overwrite, Scorer, Threads, Trust, chosen_cleaners
from uadtk.core.errors import UadtkError, UsageError


def segment(
    scans: Annotated[
        list[Path], typer.Argument(help="Scans (NIfTI, DICOM, ...), a folder, a BIDS tree or a cohort.tsv.")
    ],
    model: Model = "scalespace",
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")] = Path("uadtk-out"),
    point: Annotated[str | None, typer.Option(help="Operating point of the checkpoint.")] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, help="In its place: mark scores above this value, calibrated on nothing.")
    ] = None,
    brain_mask: Annotated[Path | None, typer.Option(help="Brain mask of the scan, on its grid.")] = None,
    min_voxels: Annotated[
        int | None,
        typer.Option(min=1, help="Smallest component to keep, in voxels; default: that of the calibration, or 8."),
    ] = None,
    min_volume_ml: Annotated[float | None, typer.Option(min=0, help="The same in ml.")] = None,
    scorer: Scorer = None,
    cleaner: Cleaner = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse scans that the gate warns about (amber).")] = False,
    force: Annotated[bool, typer.Option("--force", help="Segment even what is not a scan to read (red).")] = False,
    split: Annotated[str, typer.Option(help="Use only rows of this split.")] = "",
    device: Device = "auto",
    threads: Threads = 0,
    trust: Trust = None,
    overwrite: Overwrite = False,
) -> None:
    """Segment anomalies in one scan, several scans or a cohort.

    Prints one line per scan: name, findings, millilitres, report, and the light of the gate. A scan that fails costs
    one line; the others are written, and the exit code is 1 (that of its error if it was the only one). The same
    command goes on after an interruption, and with new scans: it does what is missing, and what has changed.

    The gate looks at every scan first. Amber (too large, noisy, cropped, unusual) is a warning, and refused with
    --strict. Red (a T1 or T2, CT, a mask, a map) is refused unless --force is given. uadtk inspect SCAN shows why.
    """
    from dataclasses import replace

    from uadtk import interface
    from uadtk.io.cohort import Cohort, output_names
    from uadtk.io.results import HEADER, ScanState, Summary, failed
    from uadtk.pipeline.point import given

    if point is not None and threshold is not None:
        raise UsageError("one operating point for a scan", "--point, --threshold", "Give one of them.")
    opened = interface.open(model, scorer, chosen_cleaners(cleaner), device, threads, trust=trust)
    chosen = point if threshold is None else given(opened.checkpoint, threshold)
    cohort = interface.chosen_rows(scans, split, opened.run)
    if brain_mask is not None:
        if len(cohort) > 1:
            what, fix = f"one mask for {len(cohort)} scans", "Name masks in the cohort's brain_mask column."
            raise UsageError(what, "--brain-mask", fix)
        cohort = Cohort(tuple(replace(row, brain_mask=brain_mask) for row in cohort), cohort.source)
    states = list[ScanState]()
    summary = Summary(output / "summary.tsv", output_names(cohort)) if len(cohort) > 1 else None
    print(HEADER)
    outcomes = opened.segment_cohort(
        cohort, output, chosen, "", min_voxels, min_volume_ml, overwrite, strict=strict, force=force
    )
    try:
        for name, outcome in outcomes:
            states.append(outcome.value or failed(output, name, outcome.error))
            if summary:
                summary.add(states[-1])
            print(states[-1].row(), flush=True)
    finally:
        if summary and states:
            summary.write()
    if before := sum(state.before for state in states):
        opened.run.say(f"{before} of {len(states)} were done before; --overwrite does them again")
    if any(state.status != "done" for state in states):
        sys.exit(UadtkError.exit_code)
