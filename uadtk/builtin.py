"""uadtk's own models, scorers, thresholders and cleaners, provided through the same hooks as plugins.

Each has its own file: its name is the file name, its summary the first line of the docstring, its class is called
``Model``, ``Scorer``, ``Thresholder`` or ``Cleaner``. The files are read, not imported.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from uadtk.core.entry import Entry
from uadtk.hookspecs import hookimpl

DEFAULT_MODEL = "implant"
"""The shipped model that commands take if none is named."""

_HERE = Path(__file__).parent


def _entries(folder: str, attribute: str) -> list[Entry]:
    return [
        Entry(path.stem.replace("_", "-"), f"uadtk.{folder}.{path.stem}:{attribute}", _summary(path))
        for path in sorted((_HERE / folder).glob("[!_]*.py"))
    ]


def _summary(path: Path) -> str:
    with path.open(encoding="utf-8") as lines:
        return lines.readline().strip().strip('"')


@hookimpl
def uadtk_models() -> Iterable[Entry]:
    return _entries("models", "Model")


@hookimpl
def uadtk_scorers() -> Iterable[Entry]:
    return _entries("scorers", "Scorer")


@hookimpl
def uadtk_thresholders() -> Iterable[Entry]:
    return _entries("thresholders", "Thresholder")


@hookimpl
def uadtk_cleaners() -> Iterable[Entry]:
    return _entries("cleaners", "Cleaner")
