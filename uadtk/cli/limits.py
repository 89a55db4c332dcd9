"""Measure what a model would miss: lesions planted in your own healthy scans."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Annotated

import typer

from uadtk.cli._options import Cleaner, Device, Overwrite, Scorer, Threads, Threshold, Trust, chosen_cleaners
from uadtk.core.errors import UadtkError, UsageError
from uadtk.core.text import shown


def limits(
    model: Annotated[str, typer.Argument(help="A shipped model by name, or a checkpoint (.safetensors).")],
    healthy: Annotated[Path, typer.Argument(help="cohort.tsv, a BIDS tree, a folder or a scan; lesion-free.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")],
    point: Annotated[str | None, typer.Option(help="Operating point of the checkpoint.")] = None,
    threshold: Threshold = None,
    sizes_mm: Annotated[str, typer.Option(help="Diameters of the implants.")] = "3,5,8,12,20,30",
    contrasts: Annotated[
        str, typer.Option(help="Contrasts in percent of the tissue around them; below 0 is darker.")
    ] = "15,30,50,100",
    repeats: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            help="Implants of each size, contrast and place per scan; default: 1, up to 5 if < 10 scans.",
        ),
    ] = None,
    scorer: Scorer = None,
    cleaner: Cleaner = None,
    split: Annotated[str, typer.Option(help="Use only rows of this split.")] = "",
    seed: Annotated[
        int, typer.Option(min=0, max=2**31, help="Another seed plants other implants at other places.")
    ] = 0,
    device: Device = "auto",
    threads: Threads = 0,
    trust: Trust = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure what a model would miss: lesions planted in your own healthy scans.

    Writes limits.html to look at, sensitivity.tsv (size x contrast x place, with intervals), limits.tsv (a line per
    implant) and limits.json. Scans with known lesions count where they are lesion-free. An interrupted run resumes with
    the same command. A scan that fails is reported in one line, and the exit code is 1.

    \b
    Examples:
      uadtk limits implant healthy.tsv -o limits/
      uadtk limits implant healthy.tsv -o limits/ --sizes-mm 4,8 --contrasts 30,-30
    """
    from uadtk import interface
    from uadtk.study.limits import refuse_outputs

    if point is not None and threshold is not None:
        raise UsageError("one operating point for all scans", "--point, --threshold", "Give one of them.")
    sizes = numbers(sizes_mm, "--sizes-mm")
    shares = tuple(percent / 100 for percent in numbers(contrasts, "--contrasts"))
    refuse_outputs(output, overwrite)
    opened = interface.open(model, scorer, chosen_cleaners(cleaner), device, threads, seed, trust)
    chosen = point if threshold is None else threshold
    found = opened.limits(healthy, output, chosen, sizes, shares, repeats, split, overwrite)
    print(found.as_text())
    print("\n".join(found.missed))
    print(f"report  {shown(str(output / 'limits.html'))}")
    if found.failed:
        sys.exit(UadtkError.exit_code)


def numbers(text: str, option: str) -> tuple[float, ...]:
    """``3,5,8``. Raises UsageError."""
    try:
        found = tuple(float(part) for part in text.split(","))
        if not all(map(math.isfinite, found)):
            raise ValueError(text)
        return found
    except ValueError:
        raise UsageError(f"'{text}' is not a list of numbers", option, f"Write {option} 5,10,20.") from None
