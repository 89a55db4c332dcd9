"""Compare models and scorers on labelled collections, each beside no learning."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from uadtk.cli._options import Cluster, Device, Grid, Jobs, Threads, pairs
from uadtk.core.errors import UadtkError, UsageError


def benchmark(
    cohort: Annotated[Path, typer.Argument(help="cohort.tsv, a BIDS tree or a folder, with lesion masks.")],
    model: Annotated[
        list[str],
        typer.Option(
            help="A shipped model or a checkpoint, as vae.safetensors or ae.safetensors@residual@montecarlo; repeat it."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the table and a receipt per row.")],
    scorer: Annotated[
        list[str] | None, typer.Option(help="name:option=value,... for every model, not its own; repeat it.")
    ] = None,
    cleaners: Annotated[
        list[str] | None,
        typer.Option(help="A chain in place of the models' own, as 'erode prior median'; 'none'; repeat it."),
    ] = None,
    collection: Annotated[
        list[str] | None, typer.Option(help="One table for each, or ms+wmh for both together; all.")
    ] = None,
    split: Annotated[str, typer.Option(help="Use only rows of this split.")] = "",
    grid: Grid = "native",
    point: Annotated[str | None, typer.Option(help="Operating point of the checkpoints.")] = None,
    strategy: Annotated[
        str, typer.Option(help="In its place: calibrate every row by this thresholder, as validation or p98.")
    ] = "",
    calibrate: Annotated[
        str | None, typer.Option(help="Split to calibrate on, with --strategy or --multiverse; default: validation.")
    ] = None,
    calibrate_on: Annotated[
        str, typer.Option(help="Collection to calibrate every row on, with --strategy, in place of the row's own.")
    ] = "",
    published: Annotated[Path | None, typer.Option(help="Rows of the study to put beside ours (.tsv).")] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="COLLECTION=DATASET of --published where the names differ; repeat it.")
    ] = None,
    multiverse: Annotated[
        bool, typer.Option("--multiverse", help="Rank under every threshold rule, erosion, median, floor and grid too.")
    ] = False,
    device: Device = "auto",
    threads: Threads = 0,
    jobs: Jobs = 1,
    cluster: Cluster = "",
) -> None:
    """Compare models and scorers on labelled collections, each beside no learning.

    Writes report.html to look at, table.txt, table.tsv, pairs.tsv (every two rows compared) and rows/*.json, a receipt
    per row, from which uadtk reproduce recomputes the numbers; multiverse.txt and .tsv on request. An interrupted run
    resumes with the same command. A row or scan that fails is reported in one line, and
    the exit code is 1.

    \b
    Examples:
      uadtk benchmark cohort.tsv --split test --model implant --model vae.safetensors -o bench/
    """
    from uadtk.core.spec import Spec, parse_all
    from uadtk.pipeline.run import make_run
    from uadtk.pipeline.sources import as_cohort
    from uadtk.report.table import read_published
    from uadtk.study.publish import Study, compare
    from uadtk.study.tasks import Contender, Question

    rows = {} if published is None else read_published(published)
    if dataset and published is None:
        raise UsageError("needs --published", "--dataset", "Name the file with the study's rows.")
    if strategy and point:
        raise UsageError("one operating point per row", "--point, --strategy", "Give one of them.")
    if calibrate_on and not strategy:
        raise UsageError("needs --strategy", "--calibrate-on", "Name a thresholder, as validation.")
    if calibrate and not (strategy or multiverse):
        raise UsageError("needs --strategy or --multiverse", "--calibrate", "Name a thresholder, as validation.")
    chains = tuple(() if chain == "none" else parse_all(chain.split()) for chain in cleaners or ())
    question = Question(
        tuple(map(Contender.parse, model)),
        parse_all(scorer or []),
        chains,
        tuple(collection or ()),
        split,
        point,
        Spec.parse(strategy) if strategy else None,
        calibrate or "validation",
        grid,
        calibrate_on,
    )
    study = Study(rows, pairs(dataset, "--dataset", "COLLECTION=DATASET", "ms=MSLUB"))
    run = make_run(device, threads, jobs=jobs, cluster=cluster)
    compared = compare(question, as_cohort(cohort, run), output, run, study, multiverse)
    print(compared.text, end="")
    if compared.failed:
        sys.exit(UadtkError.exit_code)
