"""The log of a training: one JSON record per epoch, one line each, beside the checkpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uadtk.checkpoint import SUFFIX
from uadtk.core.absent import why
from uadtk.core.errors import DataError
from uadtk.io.write import write_text
from uadtk.report.curves import curves_html


def log_path(output: Path) -> Path:
    return output.with_name(output.name.removesuffix(SUFFIX) + ".log.jsonl")


def write_log(output: Path, records: Sequence[dict[str, Any]]) -> None:
    write_text(log_path(output), "".join(json.dumps(record) + "\n" for record in records))


def page_path(log: Path) -> Path:
    """The page with the curves, beside the log."""
    return log.with_name(log.name.removesuffix(".log.jsonl") + ".training.html")


def draw_log(log: Path, records: Sequence[dict[str, Any]], page: Path) -> None:
    """Write the curves of a log as a page."""
    write_text(page, curves_html(log.name.removesuffix(".log.jsonl"), records))


def read_log(path: Path) -> list[dict[str, Any]]:
    """Raises DataError if the file cannot be read, is empty, or is not a training log."""
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        whole = bool(records) and all({"epoch", "validation_loss", "seconds"} <= set(record) for record in records)
    except OSError as error:
        raise DataError(f"cannot be read ({why(error)})", str(path), "Name a training's .log.jsonl.") from None
    except (ValueError, TypeError):
        whole = False
    if not whole:
        raise DataError("is not the log of a training", str(path), "Name a training's .log.jsonl.")
    return records
