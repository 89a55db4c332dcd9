"""Choose an operating point on healthy scans and store it in the checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uadtk.cli._options import (
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
    say,
)
from uadtk.core.errors import UsageError


def threshold(
    model: Model,
    healthy: Annotated[Path, typer.Option(help="cohort.tsv, a BIDS tree, a folder or a scan to calibrate on.")],
    strategy: Annotated[
        str | None, typer.Option(help="Thresholder, as p98:percentile=99; p98 if not given, healthy-fp with --budget.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(help="False positives allowed: '1 lesion/scan', '0.5 ml/scan' or '1 % voxels' (for healthy-fp)."),
    ] = None,
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
    unless -o names another file. For a new site, give scans of that site the model was not trained on.
    """
    from uadtk.io.cohort import read_cohort
    from uadtk.pipeline.threshold import calibrate

    checkpoint = open_method(model, scorer, cleaner)
    path = output or Path(checkpoint.source)
    if output is None and path.suffix != ".safetensors":
        raise UsageError("is not a file of yours", model, "Name a checkpoint to write with -o.")
    refuse_file(path, overwrite or output is None)
    cohort = read_cohort(healthy)
    spec, run = _spec(strategy, budget), make_run(device, threads)
    point = calibrate(checkpoint, cohort.split(split) if split else cohort, spec, name, run)
    checkpoint.with_point(point).save(path)
    facts = [f"{key} {value:.4g}" for key, value in point.measured.items()]
    if point.interval is not None:
        facts.append("interval {:.6g} to {:.6g}".format(*point.interval))
    print(f"{path}: {point.name} = {point.threshold:.6g} ({point.target}; {point.scans} scans; {', '.join(facts)})")
    if "brain_counted" in point.measured:
        part = f"{point.measured['brain_counted']:.0%} of the brain"
        say(f"only lesion-free slices were counted, {part}: what is promised of a scan is promised of such a part")


def _spec(strategy: str | None, budget: str | None) -> str:
    if budget is None:
        return strategy or "p98"
    if "," in budget:
        raise UsageError("a budget has no comma", f"--budget '{budget}'", "Write 0.5, not 0,5.")
    strategy = strategy or "healthy-fp"
    return f"{strategy}{',' if ':' in strategy else ':'}budget={budget}"
