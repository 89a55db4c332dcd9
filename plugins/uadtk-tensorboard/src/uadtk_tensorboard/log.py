"""Losses, learning rate and seconds of each epoch as event files in ``<name>.tensorboard/``, beside the checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter


def log(record: Mapping[str, Any], output: Path, settings: Mapping[str, Any]) -> None:
    """One point per quantity; ``train_x`` and ``validation_x`` become ``train/x`` and ``validation/x``."""
    writer = _writer(output, json.dumps(settings, indent=2))
    for name, value in record.items():
        if name != "epoch":
            writer.add_scalar(
                name.replace("_", "/", 1) if name.startswith(("train_", "validation_")) else name,
                value,
                record["epoch"],
            )
    writer.flush()


@cache
def _writer(output: Path, settings: str) -> SummaryWriter:
    """One file per process: a resumed training adds another, and TensorBoard joins them."""
    writer = SummaryWriter(output.with_suffix(".tensorboard"))
    writer.add_text("settings", f"```\n{settings}\n```")
    return writer
