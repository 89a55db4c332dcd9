"""Measure a model on labelled scans, beside the no-learning baseline."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uadtk.cli._options import (
    Cleaner,
    Cluster,
    Device,
    Force,
    Grid,
    Jobs,
    Overwrite,
    Scorer,
    Threads,
    Trust,
    chosen_cleaners,
    pairs,
)
from uadtk.core.errors import UadtkError

if TYPE_CHECKING:
    from uadtk.metrics.measures import Measure
    from uadtk.pipeline.evaluate import Evaluation


def evaluate(
    model: Annotated[str, typer.Argument(help="A shipped model by name, or a checkpoint (.safetensors).")],
    cohort: Annotated[Path, typer.Argument(help="cohort.tsv, a BIDS tree or a folder, with lesion masks.")],
    split: Annotated[str, typer.Option(help="Use only rows of this split.")] = "",
    where: Annotated[list[str] | None, typer.Option(help="Use only rows with COLUMN=VALUE; repeat it.")] = None,
    scorer: Scorer = None,
    cleaner: Cleaner = None,
    point: Annotated[str | None, typer.Option(help="Operating point of the checkpoint.")] = None,
    grid: Grid = "native",
    json: Annotated[bool, typer.Option("--json", help="For programs: with every scan, option and digest.")] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Table to write as well (.tsv).")] = None,
    device: Device = "auto",
    threads: Threads = 0,
    jobs: Jobs = 1,
    cluster: Cluster = "",
    trust: Trust = None,
    force: Force = False,
    overwrite: Overwrite = False,
) -> None:
    """Measure a model on labelled scans, beside the no-learning baseline.

    Prints a table: measure, model, histeq (same preparation, brain masks and cleaners); each value with its 95 %
    bootstrap interval over patients. A scan that fails, or that the gate refuses, is reported in one line, and the
    exit code is 1.

    \b
    Examples:
      uadtk evaluate mine.safetensors cohort.tsv --split test
      uadtk evaluate implant cohort.tsv --where collection=ms --json
    """
    from json import dumps

    from uadtk import interface
    from uadtk.io.write import refuse_file, write_text
    from uadtk.pipeline.run import say

    if output is not None:
        refuse_file(output, overwrite)
    opened = interface.open(
        model, scorer, chosen_cleaners(cleaner), device, threads, trust=trust, jobs=jobs, cluster=cluster
    )
    values = pairs(where, "--where", "COLUMN=VALUE", "collection=lgg")
    found = interface.evaluate(opened, cohort, split, values, point, grid, force)
    for line in _notes(found.model):
        say(line)
    both = [one for one in found if one is not None]
    text = _table(both)
    print(dumps([one.to_json() for one in both], indent=2) if json else text)
    if output is not None:
        write_text(output, text + "\n", named=True)
    if found.model.failed:
        sys.exit(UadtkError.exit_code)


def _notes(found: Evaluation) -> Iterator[str]:
    """What a reader must know before the numbers."""
    labelled = [scan for scan in found.scans if scan.labelled]
    lesion, outside = (sum(getattr(s, name) for s in labelled) for name in ("lesion_voxels", "lesion_outside"))
    point = f"point {found.point.name}: score > {found.point.threshold:.6g}" if found.point else "no operating point"
    yield f"{len(found.scans)} scans of {found.patients} patients, {len(labelled)} with a lesion mask; {point}"
    if found.trained_on:
        yield f"{found.trained_on} scans are of split 'train': the model may have learned them"
    if len({scan.subject for scan in labelled or found.scans}) < 2:
        yield "one patient: no intervals"
    if not lesion:
        yield "no lesion in any mask: only false positives can be measured"
        return
    yield f"lesions are {found.lesion_share:.2%} of the labelled brains"
    if empty := sum(not scan.lesion_voxels for scan in labelled):
        yield f"{empty} of {len(labelled)} labelled scans hold no lesion: their DICE is 1 if nothing is found, else 0"
    if outside:
        yield f"{outside / lesion:.2%} of the lesion voxels lie outside the brain: missed in DICE and in ..._volume"
    for scan in labelled:
        if scan.lesion_voxels and scan.lesion_outside == scan.lesion_voxels:
            yield f"{scan.subject}: no lesion voxel lies in the brain; check {scan.image}"


def _table(found: list[Evaluation]) -> str:
    """One line per measure, one column per model; ``value [low, high]``."""
    names = [Path(one.model).stem for one in found]
    lines = ["\t".join(["measure", *names])]
    for name in dict.fromkeys(name for one in found for name in one.measures):
        lines.append("\t".join([name, *(_cell(one.measures.get(name)) for one in found)]))
    return "\n".join(lines)


def _cell(measure: Measure | None) -> str:
    if measure is None or measure.value != measure.value:
        return "-"
    if measure.interval is None:
        return f"{measure.value:.4g}"
    low, high = measure.interval
    return f"{measure.value:.4g} [{low:.4g}, {high:.4g}]"
