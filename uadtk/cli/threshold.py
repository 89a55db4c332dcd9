"""Choose an operating point on healthy scans and store it in the checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uadtk.cli._options import (
    Cleaner,
    Cluster,
    Device,
    Jobs,
    Model,
    Output,
    Overwrite,
    Scorer,
    Threads,
    Trust,
    chosen_cleaners,
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
    jobs: Jobs = 1,
    cluster: Cluster = "",
    trust: Trust = None,
    overwrite: Overwrite = False,
) -> None:
    """Choose an operating point on healthy scans and store it in the checkpoint.

    Scans with known lesions count where they are lesion-free. The checkpoint itself is rewritten (weights unchanged)
    unless -o names another file. For a new site, give scans of that site the model was not trained on.
    """
    from uadtk import interface
    from uadtk.io.write import refuse_file
    from uadtk.pipeline.run import say

    spec = interface.strategy_of(strategy, budget)
    opened = interface.open(
        model, scorer, chosen_cleaners(cleaner), device, threads, trust=trust, jobs=jobs, cluster=cluster
    )
    path = output or Path(opened.checkpoint.source)
    if output is None and path.suffix != ".safetensors":
        raise UsageError("is not a file of yours", model, "Name a checkpoint to write with -o.")
    refuse_file(path, overwrite or output is None)
    point = opened.threshold(healthy, str(spec), None, name, split)
    opened.save(path, overwrite=True)
    facts = [f"{key} {value:.4g}" for key, value in point.measured.items()]
    if point.interval is not None:
        facts.append("interval {:.6g} to {:.6g}".format(*point.interval))
    print(f"{path}: {point.name} = {point.threshold:.6g} ({point.target}; {point.scans} scans; {', '.join(facts)})")
    if "brain_counted" in point.measured:
        part = f"{point.measured['brain_counted']:.0%} of the brain"
        say(f"only lesion-free slices were counted ({part}): any guarantee per scan holds for that part of it")
