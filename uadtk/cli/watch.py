"""Segment what arrives in a folder: scans and DICOM series, each once, as soon as it is complete."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from uadtk.builtin import DEFAULT_MODEL
from uadtk.cli._options import Device, DicomSc, DicomSeg, DicomSr, Layout, Model, Space, Threads


def watch(
    incoming: Annotated[Path, typer.Argument(help="Folder that scans are copied into: files, or a folder per series.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")],
    model: Model = DEFAULT_MODEL,
    point: Annotated[str | None, typer.Option(help="Operating point of the checkpoint.")] = None,
    settle: Annotated[
        float, typer.Option(min=0.1, max=86400, help="Seconds without a change after which a scan is complete.")
    ] = 10.0,
    once: Annotated[bool, typer.Option("--once", help="Stop when all that is there now is done.")] = False,
    form: Annotated[Literal["table", "json", "quiet"], typer.Option(help="What is printed.")] = "table",
    dicom_seg: DicomSeg = False,
    dicom_sr: DicomSr = False,
    dicom_sc: DicomSc = False,
    space: Space = None,
    layout: Layout = None,
    device: Device = "auto",
    threads: Threads = 0,
) -> None:
    """Segment what arrives in a folder: scans and DICOM series, each once, as soon as it is complete.

    Complete is a file or folder that has not changed for --settle seconds. What is done is known from the output folder
    alone, so the command may be stopped and started at any time, and a machine may fail: the next start goes on. A scan
    that fails is tried again when it changes, or at the next start; with --once, the exit code is then 1. Where scans
    share a name, as the studies of a patient do, later ones get a number: NAME_2.

    summary.tsv and index.html, the page of all scans, grow with each scan. The folder is read once, at the start; of a
    large archive the page is made less often, in a twentieth of the time, and when all that has arrived is done.

    --dicom-seg, --dicom-sr, --dicom-sc, --space and --layout are those of uadtk segment; the BIDS derivative is brought
    up to date after each arrival. A scan that would have the BIDS name of another is reported and not segmented.

    \b
    Examples:
      uadtk watch incoming/ -o out/
      uadtk watch incoming/ -o out/ --settle 60 --form json --layout bids
    """
    from dataclasses import replace

    from uadtk import interface
    from uadtk.cli._reporter import Reporter
    from uadtk.core.errors import DataError, UadtkError, UsageError
    from uadtk.io.bids_out import DERIVATIVE, refuse_unexportable, write_bids
    from uadtk.io.dicom_out import kinds_of
    from uadtk.io.results import SUMMARY, Pace, Summary, failed, read_scan
    from uadtk.io.write import within
    from uadtk.pipeline.archive import segment_cohort
    from uadtk.pipeline.naming import names_in
    from uadtk.pipeline.segment import Rules
    from uadtk.pipeline.watch import arrivals
    from uadtk.report.cohort_page import refuse_other_page, write_cohort_page

    if not incoming.is_dir():
        raise UsageError("no such folder", str(incoming), "Create it first.")
    if output.resolve().is_relative_to(incoming.resolve()):
        raise UsageError("lies in the folder that is watched", f"--output {output}", "Choose a folder outside it.")
    refuse_other_page(output)
    opened = interface.open(model, device=device, threads=threads)
    opened.run = replace(opened.run, dicom=kinds_of(dicom_seg, dicom_sr, dicom_sc), space=space or "")
    chosen = opened.checkpoint.point(point)
    reporter, summary, pace = Reporter(opened.run, [], form), Summary(output / SUMMARY, []), Pace()

    def write_page() -> None:
        with pace.counted():
            summary.renew()
            if summary.states:
                write_cohort_page(output, summary.states)

    for rows in arrivals(incoming, settle, once, opened.run):
        if not rows:
            write_page()
            continue
        names = reporter.names = names_in(output, rows, numbered=True)
        if layout == "bids":
            try:
                refuse_unexportable(output, names, rows, summary.states)
            except DataError as error:
                opened.run.say(f"not segmented: {error.one_line()}")
                continue
        for outcome in segment_cohort(
            rows, names, opened.method, chosen, output, opened.run, Rules(), overwrite=False, alone=False
        ):
            state = outcome.value or failed(output, names[outcome.place], outcome.row.image, outcome.error)
            reporter.ended(state, outcome.error)
            summary.add(state)
        summary.write()
        if pace.due():
            write_page()
        held = [one for one in (read_scan(output, name) for name in names) if one]
        if layout == "bids" and any(one.status == "done" for one in held):
            write_bids(held, within(output, DERIVATIVE))
    reporter.finished()
    if reporter.counts["failed"]:
        sys.exit(UadtkError.exit_code)
