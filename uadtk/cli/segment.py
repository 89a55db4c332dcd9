"""Segment anomalies in one scan, several scans or a cohort."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from uadtk.cli._options import DEFAULT_MODEL, Cleaner, Device, Model, Overwrite, Scorer, Threads, Trust, chosen_cleaners
from uadtk.core.errors import UadtkError, UsageError
from uadtk.core.text import shown


def segment(
    scans: Annotated[
        list[Path], typer.Argument(help="Scans (NIfTI, DICOM, ...), a folder, a BIDS tree or a cohort.tsv.")
    ],
    model: Model = DEFAULT_MODEL,
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
    one line; the others are written, and the exit code is 1 (that of its error if it was the only one).

    The gate looks at every scan first. Amber (too large, noisy, cropped, unusual) is a warning, and refused with
    --strict. Red (a T1 or T2, CT, a mask, a map) is refused unless --force is given. uadtk inspect SCAN shows why.
    """
    from dataclasses import replace

    from uadtk import interface
    from uadtk.core.errors import GateError
    from uadtk.io.cohort import Cohort
    from uadtk.io.write import refuse_existing, write_text
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
    summary = output / "summary.tsv"
    if len(cohort) > 1:
        refuse_existing([summary], overwrite)
    lines = ["name\tstatus\tfindings\tvolume_ml\treport_or_error\tgate"]
    failed, usual = False, ""
    print(lines[0])
    outcomes = opened.segment_cohort(
        cohort, output, chosen, "", min_voxels, min_volume_ml, overwrite, strict=strict, force=force
    )
    for name, outcome in outcomes:
        if outcome.error is not None:
            failed = True
            light = outcome.error.light if isinstance(outcome.error, GateError) else ""
            lines.append(f"{name}\tfailed\t\t\t{outcome.error.one_line()}\t{light}")
        else:
            findings = outcome.result.findings
            total_ml = sum(finding.volume_ml for finding in findings)
            report, light = shown(str(output / f"{name}_report.html")), outcome.result.gate.light
            lines.append(f"{name}\tdone\t{len(findings)}\t{total_ml:.3f}\t{report}\t{light}")
            usual = outcome.result.point.lesion_free
        print(lines[-1], flush=True)
    if usual:
        opened.run.say(f"lesion-free scans have {usual}")
    if len(cohort) > 1:
        write_text(summary, "\n".join(lines) + "\n")
    if failed:
        sys.exit(UadtkError.exit_code)
