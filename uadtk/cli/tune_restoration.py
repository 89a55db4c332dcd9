"""Choose the total-variation weight of restoration on healthy scans with planted lesions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uadtk.cli._options import Device, Model, Output, Overwrite, Scorer, Threads


def tune_restoration(
    model: Model,
    healthy: Annotated[Path, typer.Option(help="cohort.tsv, a BIDS tree, a folder or a scan.")],
    split: Annotated[str, typer.Option(help="Use only rows of this split.")] = "",
    slices: Annotated[
        int, typer.Option(min=1, max=100_000, help="Lesion-free slices to restore, from all scans.")
    ] = 32,
    output: Output = None,
    scorer: Scorer = None,
    device: Device = "auto",
    threads: Threads = 0,
    overwrite: Overwrite = False,
) -> None:
    """Choose the total-variation weight of restoration on healthy scans with planted lesions.

    Discs of several sizes are planted. Prints, for each weight, how well each size is found (AUPRC) and the mean score
    of healthy tissue; -o writes the checkpoint with restoration, at the weight with the highest mean AUPRC, as its
    scorer. Operating points stay, but hold for the scorer they were made with.
    """
    from dataclasses import replace

    from uadtk.checkpoint import open_with
    from uadtk.io.write import refuse_file
    from uadtk.pipeline.run import make_run
    from uadtk.pipeline.sources import chosen_rows
    from uadtk.training.tune import RADII_MM, outcomes_by_weight, restoration_spec, with_weight

    checkpoint = open_with(model, scorer, None)
    if output is not None:
        refuse_file(output, overwrite)
    run = make_run(device, threads)
    found = outcomes_by_weight(checkpoint, chosen_rows(healthy, split, run), run, slices=slices)
    print("tv", "auprc", *(f"auprc_{2 * radius:g}mm" for radius in RADII_MM), "healthy", sep="\t")
    for weight, outcome in found.items():
        values = (outcome.mean, *outcome.auprc, outcome.healthy)
        print(f"{weight:g}", *(f"{value:.6f}" for value in values), sep="\t")
    spec = with_weight(restoration_spec(checkpoint.scorer), max(found, key=lambda weight: found[weight].mean))
    print(f"--scorer {spec}")
    if output is not None:
        replace(checkpoint, scorer=spec).save(output)
        print(output)
