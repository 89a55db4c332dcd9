"""Draw the losses and the learning rate of a training, running or done."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uadtk.cli._options import Overwrite


def report_training(
    log: Annotated[Path, typer.Argument(help="A training log (.log.jsonl), or the checkpoint beside it.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Page to write; by default beside the log.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw the losses and the learning rate of a training, running or done."""
    from uadtk.checkpoint import SUFFIX
    from uadtk.io.write import refuse_file, write_text
    from uadtk.report.curves import curves_html
    from uadtk.training.logs import log_path, read_log

    source = log_path(log) if log.suffix == SUFFIX else log
    records = read_log(source)
    name = source.name.removesuffix(".log.jsonl")
    page = output or source.with_name(f"{name}.training.html")
    refuse_file(page, overwrite)
    write_text(page, curves_html(name, records))
    print(page)
