"""Weights of the study's models for uadtk. This module is imported at start-up and must stay light."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from uadtk.plugin import hookimpl


@hookimpl
def uadtk_weights() -> Iterable[Path]:
    return [Path(__file__).parent / "weights"]
