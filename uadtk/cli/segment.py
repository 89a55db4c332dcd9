"""Segment anomalies in one scan, several scans or a cohort."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from uadtk.builtin import DEFAULT_MODEL
from uadtk.cli._options import (
    Cleaner,
    Cluster,
    Device,
    DicomSc,
    DicomSeg,
    DicomSr,
    Jobs,
    Layout,
    Model,
    Scorer,
    Space,
    Threads,
    Threshold,
    Trust,
    chosen_cleaners,
    shard_of,
)
from uadtk.core.errors import UadtkError, UsageError


def segment(
    scans: Annotated[
        list[Path], typer.Argument(help="Scans (NIfTI, DICOM, ...), a folder, a BIDS tree or a cohort.tsv.")
    ],
    model: Model = DEFAULT_MODEL,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")] = Path("uadtk-out"),
    point: Annotated[str | None, typer.Option(help="Operating point of the checkpoint.")] = None,
    threshold: Threshold = None,
    brain_mask: Annotated[Path | None, typer.Option(help="Brain mask of the scan, on its grid.")] = None,
    min_voxels: Annotated[
        int | None,
        typer.Option(min=1, max=2**31, help="Smallest component to keep, in voxels; default: the calibration's, or 8."),
    ] = None,
    min_volume_ml: Annotated[float | None, typer.Option(min=0, max=1e6, help="The same in ml.")] = None,
    scorer: Scorer = None,
    cleaner: Cleaner = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse scans that the gate warns about (amber).")] = False,
    force: Annotated[bool, typer.Option("--force", help="Segment even what is not a scan to read (red).")] = False,
    split: Annotated[str, typer.Option(help="Use only rows of this split.")] = "",
    device: Device = "auto",
    threads: Threads = 0,
    jobs: Jobs = 1,
    cluster: Cluster = "",
    shard: Annotated[
        str, typer.Option(help="i/n: each n-th scan from the i-th; n machines may write to one folder.")
    ] = "1/1",
    trust: Trust = None,
    dicom_seg: DicomSeg = False,
    dicom_sr: DicomSr = False,
    dicom_sc: DicomSc = False,
    space: Space = None,
    layout: Layout = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Do again what is done; replace what exists.")] = False,
    json_lines: Annotated[bool, typer.Option("--json", help="Print a line of JSON per event, not a table.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but failures.")] = False,
) -> None:
    """Segment anomalies in one scan, several scans or a cohort.

    Prints one line per scan: name, findings, millilitres, report, and the light of the gate. A scan that fails is
    reported in one line; the others are written, and the exit code is 1 (that of its error if it was the only one). The
    same command resumes after an interruption, and goes on with new scans: it does what is missing or has changed.

    --json prints an object per event: started (name, image), done (seconds, findings, volume_ml, light, before), failed
    (error, exit_code) and, at the end, finished. Failed scans go to stderr too, as does everything for people.

    --layout bids also makes OUTPUT/derivatives/uadtk at the end: all scans that are done, as uadtk export-bids writes
    them (hard links, and only what has changed). It is the default for one BIDS tree, unless OUTPUT itself lies in a
    folder "derivatives".

    --space MNI also registers each scan to the ICBM 2009a atlas (affine) and writes mask, score and scan in its space,
    NAME_space-MNI152NLin2009aSym_*, and the transform. Volumes are always those on the scan's own grid.

    The gate looks at every scan first. Amber (too large, noisy, cropped, unusual) is a warning, and refused with
    --strict. Red (a T1 or T2, CT, a mask, a map) is refused unless --force is given. uadtk inspect SCAN shows why.

    --dicom-seg and --dicom-sr write NAME_seg.dcm and NAME_sr.dcm, with study, place and name of the patient as in the
    scan. A scan without findings gets no segmentation, which may not be empty; its report says so. Of more than 255
    findings, the smallest share segment 255. --dicom-sc writes NAME_sc.dcm, a picture of the planes with the highest
    scores, outlined, for viewers that show neither. A scan that is not DICOM, or names no frame of reference, fails.

    \b
    Examples:
      uadtk segment scan.nii.gz -o out/
      uadtk segment bids/ -o out/ --jobs 8
      uadtk segment series/ -o out/ --dicom-sr
      uadtk segment scan.nii.gz -o out/ --model mine.safetensors --point p98
    """
    from dataclasses import replace

    from uadtk import interface
    from uadtk.cli._reporter import Reporter
    from uadtk.io.bids_out import DERIVATIVE, refuse_unexportable, write_bids
    from uadtk.io.cohort import Cohort
    from uadtk.io.readers.bids import is_bids
    from uadtk.io.results import SHARD, SUMMARY, Summary, failed, read_folder
    from uadtk.io.write import within
    from uadtk.pipeline.naming import names_in
    from uadtk.pipeline.point import given
    from uadtk.pipeline.sources import chosen_rows
    from uadtk.report.cohort_page import refuse_other_page, write_cohort_page

    if point is not None and threshold is not None:
        raise UsageError("one operating point for a scan", "--point, --threshold", "Give one of them.")
    if json_lines and quiet:
        raise UsageError("one form of output", "--json, --quiet", "Give one of them.")
    places = shard_of(shard)
    opened = interface.open(
        model, scorer, chosen_cleaners(cleaner), device, threads, trust=trust, jobs=jobs, cluster=cluster
    )
    chosen = point if threshold is None else given(opened.checkpoint, threshold)
    cohort = chosen_rows(scans, split, opened.run)
    if brain_mask is not None:
        if len(cohort) > 1:
            what, fix = f"one mask for {len(cohort)} scans", "Name masks in the cohort's brain_mask column."
            raise UsageError(what, "--brain-mask", fix)
        cohort = Cohort(tuple(replace(row, brain_mask=brain_mask) for row in cohort), cohort.source)
    everything = names_in(output, cohort.rows)
    names = everything[places[0] - 1 :: places[1]]
    if layout is None and len(scans) == 1 and is_bids(scans[0]) and "derivatives" not in output.absolute().parts:
        layout = "bids"
    if layout == "bids":
        refuse_unexportable(output, everything, cohort, read_folder(output))
    if len(cohort) > 1:
        refuse_other_page(output)
    reporter = Reporter(opened.run, names, "json" if json_lines else "quiet" if quiet else "table")
    outcomes = opened.segment_cohort(
        cohort,
        output,
        chosen,
        min_voxels=min_voxels,
        min_volume_ml=min_volume_ml,
        overwrite=overwrite,
        strict=strict,
        force=force,
        shard=places,
        dicom_seg=dicom_seg,
        dicom_sr=dicom_sr,
        dicom_sc=dicom_sc,
        space=space or "",
    )
    summary = None
    if len(cohort) > 1:
        one = SUMMARY if places[1] == 1 else SHARD.format(*places)
        summary = Summary(output / one, names, whole=one == SUMMARY)
    try:
        for name, outcome in outcomes:
            state = outcome.value or failed(output, name, outcome.row.image, outcome.error)
            if summary:
                summary.add(state)
            reporter.ended(state, outcome.error)
    except UadtkError as error:
        if len(cohort) == 1:
            reporter.ended_alone(error)
        raise
    finally:
        if summary and (reporter.counts or not names):  # a part without scans, of a small cohort, has been done
            summary.write()
    if summary and reporter.counts["done"] + reporter.counts["before"]:  # a kill may have come before it
        if places[1] > 1:
            summary = Summary(output / SUMMARY, [])
        summary.renew()
        write_cohort_page(output, summary.states)
    if layout == "bids" and reporter.counts["done"] + reporter.counts["before"]:
        written = write_bids(read_folder(output), within(output, DERIVATIVE))
        opened.run.say(f"BIDS derivative: {output / DERIVATIVE}{'' if written else ' (nothing has changed)'}")
    reporter.finished()
    if reporter.counts["failed"]:
        sys.exit(UadtkError.exit_code)
