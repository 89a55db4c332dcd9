"""The hooks of uadtk, for discovery and observation; the data path is plain functions.

A plugin is a light module (no numpy, no torch) named by an entry point in the group ``uadtk``::

    from uadtk.plugin import Entry, hookimpl

    @hookimpl
    def uadtk_models():
        return [Entry("vqvae", "uadtk_vqvae.model:Model", "Vector-quantised autoencoder.")]

Future versions may add arguments to a hook, never remove them.
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
    """Models: classes as described in ``uadtk.core.model``."""


@hookspec
def uadtk_scorers() -> Iterable[Entry]:  # type: ignore[empty-body]
    """Scorers: classes as described in ``uadtk.core.scorer``."""


@hookspec
def uadtk_thresholders() -> Iterable[Entry]:  # type: ignore[empty-body]
    """Thresholders: classes as described in ``uadtk.core.thresholder``."""


@hookspec
def uadtk_cleaners() -> Iterable[Entry]:  # type: ignore[empty-body]
    """Cleaners: classes as described in ``uadtk.core.cleaner``."""


@hookspec
def uadtk_loggers() -> Iterable[Entry]:  # type: ignore[empty-body]
    """What ``uadtk train --log-to`` can name: functions that are called as ``uadtk_epoch_done`` is."""


@hookspec
def uadtk_commands() -> Iterable[Entry]:  # type: ignore[empty-body]
    """Subcommands of ``uadtk``: functions with annotated parameters, or ``typer.Typer`` apps."""


@hookspec
def uadtk_weights() -> Iterable[Path]:  # type: ignore[empty-body]
    """Folders of checkpoints that ``--model`` finds by name, each with an ``index.json``::

    {"models": {"vae": {"file": "vae.safetensors", "digest": "...", "card": "vae.md", "licence": "..."}}}
    """


@hookspec(firstresult=True)
def uadtk_read(path: Path) -> Volume | None:
    """Read an image of another format, or return None. Its own readers (``uadtk.io.readers``) come first."""


@hookspec
def uadtk_scan_done(segmentation: Segmentation) -> None:
    """Called after a scan was segmented and its files were written. Observers must not modify it."""


@hookspec
def uadtk_scan_failed(path: Path, error: Exception) -> None:
    """Called when a scan of a cohort could not be segmented."""


@hookspec
def uadtk_epoch_done(record: dict[str, Any], output: Path, settings: dict[str, Any]) -> None:
    """Called after a training epoch; ``record`` is its line in the log of the checkpoint ``output``.

    ``settings``: model, preparation and schedule with all their options, and the digest of the cohort.
    """
