"""The log of a training: one JSON record per epoch, one line each, beside the checkpoint; and a page of its curves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uadtk.checkpoint import SUFFIX
from uadtk.core import schema
from uadtk.core.absent import why
from uadtk.core.errors import DataError
from uadtk.io.memo import read_text
from uadtk.io.write import write_text
from uadtk.report.curves import curves_html


def log_path(output: Path) -> Path:
    return output.with_name(output.name.removesuffix(SUFFIX) + ".log.jsonl")


def write_log(output: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write the log and its page beside the checkpoint ``output``; both are complete after every epoch."""
    log = log_path(output)
    write_text(log, "".join(json.dumps(record) + "\n" for record in records))
    draw_log(log, records, page_path(log))


def page_path(log: Path) -> Path:
    """The page with the curves, beside the log."""
    return log.with_name(log.name.removesuffix(".log.jsonl") + ".training.html")


def draw_log(log: Path, records: Sequence[dict[str, Any]], page: Path, named: bool = False) -> None:
    """Write the curves of a log as a page; ``named`` as in ``write_bytes``."""
    write_text(page, curves_html(log.name.removesuffix(".log.jsonl"), records), named)


def read_log(path: Path) -> list[dict[str, Any]]:
    """Raises DataError if the file cannot be read, is empty, or is not a training log."""
    fix = "Name a training's .log.jsonl."
    try:
        records = [schema.parse_json(line) for line in read_text(path).splitlines()]
        schema.items(_RECORD, 10**6, least=1)(records, "the log")
    except OSError as error:
        raise DataError(f"cannot be read ({why(error)})", str(path), fix) from None
    except ValueError as error:
        raise DataError(f"is not the log of a training ({error})", str(path), fix) from None
    return records


def _loss(value: Any, name: str) -> None:
    """A number; of a training that diverged, NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} is not a number")


_RECORD = schema.record({"epoch": schema.whole(0, 10**9), "validation_loss": _loss, "seconds": schema.number(0, 1e12)})
