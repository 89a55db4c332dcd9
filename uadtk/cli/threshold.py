"""Choose an operating point on healthy scans and store it in the checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uadtk.cli._common import (
    Cleaner,
    Device,
    Model,
    Output,
    Overwrite,
    Scorer,
    Threads,
    make_run,
    open_method,
    refuse_file,
)
from uadtk.core.errors import UsageError


def threshold(
    model: Model,
    healthy: Annotated[Path, typer.Option(help="cohort.tsv, a BIDS tree, a folder or a scan to calibrate on.")],
    strategy: Annotated[str, typer.Option(help="Thresholder, as p98 or p98:percentile=99.")] = "p98",
    name: Annotated[str, typer.Option(help="Name of the operating point; the strategy's if not given.")] = "",
    split: Annotated[str, typer.Option(help="Use only rows of this split.")] = "",
    output: Output = None,
    scorer: Scorer = None,
    cleaner: Cleaner = None,
    device: Device = "auto",
    threads: Threads = 0,
    overwrite: Overwrite = False,
) -> None:
    """Choose an operating point on healthy scans and store it in the checkpoint.

    Scans with known lesions count where they are lesion-free. The checkpoint itself is rewritten (weights unchanged)
    unless -o names another file.
    """
    from uadtk.io.cohort import read_cohort
    from uadtk.pipeline.threshold import calibrate

    checkpoint = open_method(model, scorer, cleaner)
    path = output or Path(checkpoint.source)
    if output is None and path.suffix != ".safetensors":
        raise UsageError("is not a file of yours", model, "Name a checkpoint to write with -o.")
    refuse_file(path, overwrite or output is None)
    cohort = read_cohort(healthy)
    point = calibrate(checkpoint, cohort.split(split) if split else cohort, strategy, name, make_run(device, threads))
    checkpoint.with_point(point).save(path)
    measured = ", ".join(f"{key} {value:.4g}" for key, value in point.measured.items())
    print(f"{path}: {point.name} = {point.threshold:.6g} ({point.target}; {point.scans} scans; {measured})")
