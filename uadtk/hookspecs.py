"""The hooks of uadtk. Hooks find things and watch; the data path is plain functions.

A plugin is a light module (no numpy, no torch) named by an entry point in the group ``uadtk``::

    from uadtk.plugin import Entry, hookimpl

    @hookimpl
    def uadtk_models():
        return [Entry("vqvae", "uadtk_vqvae.model:Model", "Vector-quantised autoencoder.")]

Hooks only ever gain arguments.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from uadtk.core.entry import Entry

if TYPE_CHECKING:
    from uadtk.core.finding import Segmentation
    from uadtk.core.volume import Volume

hookspec = pluggy.HookspecMarker("uadtk")
hookimpl = pluggy.HookimplMarker("uadtk")


@hookspec
def uadtk_models() -> Iterable[Entry]:  # type: ignore[empty-body]
    """Models: classes as ``uadtk.core.model`` describes them."""


@hookspec
def uadtk_scorers() -> Iterable[Entry]:  # type: ignore[empty-body]
    """Scorers: classes as ``uadtk.core.scorer`` describes them."""


@hookspec
def uadtk_thresholders() -> Iterable[Entry]:  # type: ignore[empty-body]
    """Thresholders: classes as ``uadtk.core.thresholder`` describes them."""


@hookspec
def uadtk_cleaners() -> Iterable[Entry]:  # type: ignore[empty-body]
    """Cleaners: classes as ``uadtk.core.cleaner`` describes them."""


@hookspec
def uadtk_commands() -> Iterable[Entry]:  # type: ignore[empty-body]
    """Subcommands of ``uadtk``: a function with annotated parameters, or a ``typer.Typer``."""


@hookspec(firstresult=True)
def uadtk_read(path: Path) -> Volume | None:
    """Read an image of a format uadtk does not know, or return None. The readers of ``uadtk.io.readers`` come first."""


@hookspec
def uadtk_scan_done(segmentation: Segmentation) -> None:
    """A scan was segmented and its files are written. Observers must not change it."""


@hookspec
def uadtk_scan_failed(path: Path, error: Exception) -> None:
    """A scan of a cohort could not be segmented."""


@hookspec
def uadtk_epoch_done(record: dict[str, Any]) -> None:
    """A training epoch ended; ``record`` is its line in the log."""
