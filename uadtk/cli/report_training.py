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
    """Draw the losses and the learning rate of a training, running or done.

    A training draws its page after each epoch itself, beside the checkpoint: open NAME.training.html. This command is
    for logs from elsewhere.
    """
    from uadtk.checkpoint import SUFFIX
    from uadtk.io.write import refuse_file
    from uadtk.training.logs import draw_log, log_path, page_path, read_log

    source = log_path(log) if log.suffix == SUFFIX else log
    records = read_log(source)
    page = output or page_path(source)
    refuse_file(page, overwrite or output is None)  # the page beside a log is the training's own
    draw_log(source, records, page, named=output is not None)
    print(page)
