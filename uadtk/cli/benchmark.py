"""Compare models and scorers on labelled collections, each beside no learning."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uadtk.cli._options import Device, Grid, Threads, make_run, pairs, say
from uadtk.core.errors import UadtkError, UsageError

if TYPE_CHECKING:
    from uadtk.io.cohort import Cohort


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
        str, typer.Option(help="Split to calibrate on, with --strategy or --multiverse.")
    ] = "validation",
    published: Annotated[Path | None, typer.Option(help="Rows of the study to put beside ours (.tsv).")] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="COLLECTION=DATASET of --published where the names differ; repeat it.")
    ] = None,
    multiverse: Annotated[
        bool, typer.Option("--multiverse", help="Rank under every threshold rule, erosion, median, floor and grid too.")
    ] = False,
    device: Device = "auto",
    threads: Threads = 0,
) -> None:
    """Compare models and scorers on labelled collections, each beside no learning.

    Writes report.html to look at, table.txt, table.tsv, pairs.tsv (every two rows compared) and rows/*.json, a receipt
    per row, from which uadtk reproduce makes the same numbers again; multiverse.txt and .tsv if asked. Run it again to
    go on where it was stopped. A row or scan that fails costs one line, and the exit code is 1.
    """
    from dataclasses import asdict

    from torch import get_num_threads

    from uadtk.io.cohort import read_cohort
    from uadtk.io.write import write_json, write_text
    from uadtk.metrics.multiverse import drivers, ranks
    from uadtk.report import multiverse as universes
    from uadtk.report.study import study_html
    from uadtk.report.table import as_text, as_tsv, named_datasets, pairs_as_tsv, read_published
    from uadtk.study.benchmark import Asked, carry_out, multiverses, pairs_of, pictures_in, plan

    study = {} if published is None else read_published(published)
    if dataset and published is None:
        raise UsageError("needs --published", "--dataset", "Name the file with the study's rows.")
    if strategy and point:
        raise UsageError("one operating point per row", "--point, --strategy", "Give one of them.")
    chains = tuple(() if chain == "none" else tuple(chain.split()) for chain in cleaners or ())
    asked = Asked(
        tuple(model), tuple(scorer or ()), chains, tuple(collection or ()), split, point, strategy, calibrate, grid
    )
    table = read_cohort(cohort)
    run = make_run(device, threads)
    tasks = plan(asked, table, run)
    collections = list(dict.fromkeys(task.collection for task in tasks))
    datasets = named_datasets(study, collections, pairs(dataset, "--dataset", "COLLECTION=DATASET", "ms=MSLUB"))
    write_json(output / "benchmark.json", {"cohort": str(cohort), **asdict(asked)})  # now, to see that it can be
    for line in _before({task.collection: task.rows for task in tasks}):
        say(line)
    found_at = {"cohort": str(cohort.resolve()), "split": split, "threads": str(get_num_threads())}
    lines = list(carry_out(tasks, output, found_at, run))
    write_text(output / "table.tsv", as_tsv(lines, study, datasets))
    compared = pairs_of(lines, run.seed)
    write_text(output / "pairs.tsv", pairs_as_tsv(compared))
    write_text(output / "table.txt", text := as_text(lines, study, datasets))
    found = list(multiverses(tasks, lines, asked, table, output, run)) if multiverse else []
    ranked = ranks(found)
    if found:
        write_text(output / "multiverse.tsv", universes.as_tsv(found))
        write_text(output / "multiverse.txt", ranking := universes.as_text(ranked, drivers(found)))
        text += "\n" + ranking
    pictures = pictures_in(output, [line.receipt for line in lines if line.receipt])
    heads = pictures_in(output, collections)
    told = {"Cohort": str(cohort), **({"Split": split} if split else {}), "Grid": grid}
    write_text(output / "report.html", study_html(lines, study, datasets, compared, ranked, pictures, heads, told))
    print(text, end="")
    if any(line.problem.startswith("failed: ") or (line.evaluation or {}).get("failed") for line in lines):
        sys.exit(UadtkError.exit_code)


def _before(collections: dict[str, Cohort]) -> Iterator[str]:
    """What a reader must know before the numbers."""
    for name, rows in collections.items():
        learned = sum(row.split == "train" for row in rows)
        if learned:
            yield f"{name or 'cohort'}: {learned} scans are of split 'train': the models may have learned them"
        if len({row.subject for row in rows if row.lesion_mask}) < 2:
            yield f"{name or 'cohort'}: fewer than two patients with a lesion mask: no intervals, no p-values"
