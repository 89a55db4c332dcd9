"""Recompute a benchmark row from its receipt, and compare."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from uadtk.cli._options import Threads
from uadtk.core.errors import UadtkError


def reproduce(
    receipt: Annotated[Path, typer.Argument(help="A file of the folder 'rows' that uadtk benchmark wrote.")],
    model: Annotated[str, typer.Option(help="Where the checkpoint is now, if it was moved.")] = "",
    cohort: Annotated[str, typer.Option(help="Where the cohort is now, if it was moved.")] = "",
    threads: Threads = 0,
) -> None:
    """Recompute a benchmark row from its receipt, and compare.

    Prints a line for each number that differs by more than a relative 1e-6; the exit code is then 1. A checkpoint or
    scans other than those of the receipt are refused. Runs on the receipt's device and with its number of threads;
    another number may change values by a relative 1e-4.
    """
    from uadtk.pipeline.run import make_run
    from uadtk.study.receipt import read_receipt
    from uadtk.study.receipt import reproduce as again

    record = read_receipt(receipt)
    threads = threads or int(record["where"].get("threads", 0))  # how sums are split decides their last digits
    differences = again(record, make_run(record["key"]["device"], threads), model, cohort)
    for line in differences:
        print(line)
    if differences:
        sys.exit(UadtkError.exit_code)
    print("the same numbers")
